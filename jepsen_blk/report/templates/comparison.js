"use strict";
(() => {
  const table = document.getElementById("table");
  const form = document.getElementById("filters");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const valueOf = (cell) => cell.dataset.value ?? cell.textContent.trim();

  // Sorting: each head becomes a button; the same one again turns the order.
  const sort = (column) => {
    const head = heads[column];
    const down = head.getAttribute("aria-sort") === "ascending";
    const number = head.dataset.kind === "number";
    const key = (row) => (number ? Number(valueOf(row.cells[column])) : valueOf(row.cells[column]));
    const compare = (a, b) => (number ? key(a) - key(b) : key(a).localeCompare(key(b)));
    const order = rows.slice().sort((a, b) => (down ? -1 : 1) * compare(a, b));
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...order);
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(column));
    head.replaceChildren(button);
  });

  // Filtering: a row is shown that has every choice and every word.
  const choices = [...form.querySelectorAll("select")].map((select) => {
    const column = heads.findIndex((head) => head.textContent === select.name);
    const values = [...new Set(rows.map((row) => valueOf(row.cells[column])))];
    select.append(...values.map((value) => new Option(value, value)));
    return { select, column };
  });
  const show = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(words.every((word) => text.includes(word))
        && choices.every(({ select, column }) => !select.value || valueOf(row.cells[column]) === select.value));
      shown += row.hidden ? 0 : 1;
    }
    form.elements.count.value = `${shown} of ${rows.length} cells`;
  };
  form.addEventListener("input", show);
  form.addEventListener("reset", () => setTimeout(show));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();

  // The details of a cell: opened by a link, which they give the focus back to.
  let opener = null;
  const opened = () => document.querySelector(".drill:target");
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link && link.hash.startsWith("#cell-")) opener = link;
    if (link && link.classList.contains("close")) { event.preventDefault(); close(); }
  });
  const close = () => {
    const [x, y] = [scrollX, scrollY];
    location.hash = "#closed";
    scrollTo(x, y);
    opener?.focus({ preventScroll: true });
  };
  addEventListener("hashchange", () => opened()?.focus());
  addEventListener("keydown", (event) => { if (event.key === "Escape" && opened()) close(); });
})();
