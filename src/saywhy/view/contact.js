// Sorting and filtering of the contact sheet; without this script the page shows all images in the order of the run.
const list = document.querySelector(".cards");
const cards = [...list.children];
const count = document.querySelector("[role=status]");

/** Sort by the number in `data-KEY`, or by the order of the run; cards without a number come last. */
function sort(key, sign) {
  const value = (card) => (card.dataset[key] === "" ? Infinity : sign * Number(card.dataset[key]));
  list.append(...(key ? cards.toSorted((a, b) => value(a) - value(b)) : cards));
}

function filter(suspicious) {
  for (const card of cards) card.hidden = suspicious && !("suspicious" in card.dataset);
  const shown = cards.filter((card) => !card.hidden).length;
  count.textContent = `${shown} of ${cards.length} images`;
}

document.querySelector("select").addEventListener("change", (event) => {
  const [key, sign] = event.target.value.split(" ");
  sort(key, Number(sign));
});
document.querySelector("input").addEventListener("change", (event) => filter(event.target.checked));
filter(false);
