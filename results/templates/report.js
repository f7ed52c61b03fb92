// Makes the tables of the page sort and filter. Works on what the page holds; it loads nothing.
"use strict";

// Cells carry their number in data-order; those without one come last in both directions.
const byNumber = (sign) => (one, other) =>
  one === "" || other === "" ? (one === "") - (other === "") : sign * (one - other);
DataTable.type("number-or-none", { order: { asc: byNumber(1), desc: byNumber(-1) } });

for (const table of document.querySelectorAll("table.sortable")) {
  const texts = Number(table.dataset.texts);
  new DataTable(table, {
    autoWidth: false,
    columnDefs: [
      { targets: [...Array(texts).keys()], type: "string" },
      { targets: "_all", type: "number-or-none" },
    ],
    info: false,
    layout: { topStart: "search", topEnd: null, bottomStart: null, bottomEnd: null },
    language: { search: "Filter rows", searchPlaceholder: "Filter rows", zeroRecords: "No row matches." },
    order: [],
    paging: false,
  });
}
