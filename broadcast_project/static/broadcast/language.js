// Which of its languages a message is shown in: as broadcasts/languages.py chooses for the inbox.

/** The message in the best of these languages, else in its own; without its translations. */
export function inLanguage({ translations = {}, ...message }, wanted) {
  const found = bestOf([message.language ?? "", ...Object.keys(translations)], wanted);
  return found in translations ? { ...message, ...translations[found], language: found } : message;
}

export function bestOf(available, wanted) {
  for (const tag of wanted) {
    const parts = tag.toLowerCase().split("-");
    for (let count = parts.length; count > 0; count -= 1) {
      const wider = parts.slice(0, count).join("-");
      if (available.includes(wider)) return wider;
    }
    const alike = available.filter((known) => known.startsWith(`${parts[0]}-`)).sort();
    if (alike.length) return alike[0];
  }
  return null;
}
