"use strict";

// Names of classes and of files come from outside: text goes through textContent alone.
const answers = document.getElementById("answers");
const drop = document.getElementById("drop");
const files = document.getElementById("files");
const MOST = 20; // rows of an answer
let draws = false;
let turn; // the pictures before this one

function made(kind, text = "", name = "") {
  const element = document.createElement(kind);
  element.textContent = text;
  element.className = name;
  return element;
}

const percent = (share) => `${(100 * share).toFixed(1)}%`;

// What a record says, as rows of [name, number, its share of a bar].
function rowsOf(record) {
  if (record.classes) {
    return record.classes.map((name, i) => [name, percent(record.probabilities[i]), record.probabilities[i]]);
  }
  if (record.shares) {
    return Object.entries(record.shares).map(([name, share]) => [name, percent(share), share]);
  }
  return record.objects.map((one) => [one.class, one.score.toFixed(2), one.score]);
}

function table(record) {
  const rows = rowsOf(record);
  if (!rows.length) return made("p", "nothing found");
  const found = made("table");
  for (const [name, number, share] of rows.slice(0, MOST)) {
    const bar = made("meter");
    bar.value = share;
    const cell = made("td");
    cell.append(bar);
    const row = made("tr");
    row.append(made("td", name, "name"), cell, made("td", number, "number"));
    found.append(row);
  }
  if (rows.length > MOST) found.createCaption().textContent = `${rows.length - MOST} more are in the answer to programs`;
  return found;
}

async function answer(file, card) {
  card.className = draws ? "wide" : "";
  const begin = performance.now();
  const note = made("small", " …");
  card.querySelector("h2").append(note);
  try {
    const response = await fetch(draws ? "/predict?drawn=true" : "/predict", { method: "POST", body: file });
    const record = await response.json();
    note.textContent = ` ${Math.round(performance.now() - begin)} ms`;
    if (!response.ok) {
      card.append(made("p", record.error, "bad"));
      return;
    }
    if (record.drawn) {
      const drawn = made("img");
      drawn.alt = file.name;
      drawn.src = record.drawn;
      card.querySelector("img")?.remove();
      card.append(drawn);
    }
    card.append(table(record));
  } catch (error) {
    note.textContent = "";
    card.append(made("p", `The service does not answer (${error.message}).`, "bad"));
  } finally {
    card.dataset.done = "true";
  }
}

function take(list) {
  for (const file of list) {
    const card = made("article");
    const image = made("img");
    image.alt = file.name;
    image.src = URL.createObjectURL(file);
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    image.addEventListener("error", () => image.remove(), { once: true });
    card.append(made("h2", file.name), image);
    answers.prepend(card);
    turn = turn.then(() => answer(file, card));
  }
}

files.addEventListener("change", () => {
  take(files.files);
  files.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  window.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files);
  });
}
window.addEventListener("paste", (event) => take(event.clipboardData.files));

document.getElementById("curl").textContent = `curl --data-binary @cat.jpg ${location.origin}/predict`;
turn = fetch("/model").then((response) => response.json()).then((model) => {
  draws = model.draws;
  document.title = model.checkpoint;
  document.getElementById("model").textContent = model.checkpoint;
  const some = model.classes.slice(0, 8).join(", ");
  const more = model.classes.length > 8 ? `, and ${model.classes.length - 8} more` : "";
  document.getElementById("about").textContent = `${model.task}: ${some}${more}`;
});
