FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app

# Only pyproject.toml says what is needed; a layer of its own, so that new code installs nothing.
COPY pyproject.toml .
RUN python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["tracing"], sep="\n")' > /tmp/requirements.txt \
 && pip install --no-cache-dir --requirement /tmp/requirements.txt

COPY . .
RUN useradd --system broadcast && mkdir --parents var/media && chown --recursive broadcast var
USER broadcast
RUN SECRET_KEY=for-this-step-only python manage.py collectstatic --no-input

ENTRYPOINT ["python", "manage.py"]
CMD ["web", "--host", "0.0.0.0"]
