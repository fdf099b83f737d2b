// The browser knows the time zone of its person: the default, and one click away afterwards.

const offer = document.getElementById("zone-offer");
const zones = document.getElementById("id_time_zone");
const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
const choose = () => {
  zones.value = timeZone;
  offer.hidden = true;
};

if ([...zones.options].some(({ value }) => value === timeZone) && zones.value !== timeZone) {
  const button = offer.querySelector("button");
  button.textContent = timeZone.replaceAll("_", " ");
  button.addEventListener("click", choose);
  offer.hidden = false;
  if (offer.dataset.saved === "no") choose();
}
