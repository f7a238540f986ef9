"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("th")];
  // A figure is sorted by its value, which stands before its interval or unit. Dates and commits begin with digits too.
  const figure = (text) => {
    const [found] = text.match(/^[+-]?([\d,.]+(e[+-]?\d+)?|inf)(?=\s|$)/) ?? [];
    return found === undefined ? NaN : Number(found.replace(/,/g, "").replace("inf", "Infinity"));
  };
  // A column is one of numbers only where every cell is: some commits are digits throughout. What is empty is null.
  const values = (rows, column) => {
    const texts = rows.map((row) => row.children[column].textContent.trim());
    const numbers = texts.map(figure);
    const numeric = texts.every((text, n) => text === "" || !Number.isNaN(numbers[n]));
    return texts.map((text, n) => text === "" ? null : numeric ? numbers[n] : text.toLowerCase());
  };
  const sort = (head, column) => {
    const down = head.getAttribute("aria-sort") !== "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows];
    const found = values(rows, column);
    const pairs = rows.map((row, n) => [found[n], row]);
    pairs.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const order = a < b ? -1 : a > b ? 1 : 0;
      return down ? -order : order;
    });
    pairs.forEach(([, row]) => table.tBodies[0].append(row));
  };
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    head.addEventListener("click", () => sort(head, column));
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(head, column); }
    });
  });
}
