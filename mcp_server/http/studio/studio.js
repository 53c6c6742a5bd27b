// The page keeps its place in the address: #table?filters=[...] or #sql. Nothing is ever put into the page as HTML.

const NUMBERS = /^(int(eger|[0-9]+)?|(big|small|tiny|medium)int|float[0-9]*|numeric|oid|money|real|double( precision)?|decimal|serial[0-9]*)\b(?!\[)/i;
const main = document.getElementById("main");
const dialog = document.getElementById("dialog");
const notice = document.getElementById("notice");
let schema = null;
let sqlText = "";
let turn = 0;

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name.startsWith("data-") || name === "for" || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((each) => each !== null && each !== undefined));
  return node;
}

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(`/api/${path}`, options);
  } catch {
    throw new Error("The studio does not answer. Is its command still running?");
  }
  const text = await answer.text();
  if (!answer.ok) {
    let said = text;
    try { const found = JSON.parse(text); said = `${found.message.replace(/\.$/, "")}. ${found.next}`; } catch { /* plain text */ }
    throw new Error(said);
  }
  return JSON.parse(text);
}

function tell(text) {
  notice.textContent = text;
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => { notice.textContent = ""; }, 6000);
}

const counted = (count) => count === null ? "" :
  count.exact ? count.rows.toLocaleString("en") : `${count.rows > 10000 ? "~" : ""}${count.rows.toLocaleString("en")}${count.rows > 10000 ? "" : "+"}`;
const address = (table, filters = [], view = "") =>
  `#${encodeURIComponent(table)}${filters.length || view ? "?" : ""}${new URLSearchParams({
    ...(filters.length ? { filters: JSON.stringify(filters) } : {}), ...(view ? { view } : {}),
  })}`;

function place() {
  const [name, query] = location.hash.slice(1).split("?");
  const asked = new URLSearchParams(query || "");
  let filters = [];
  try { filters = JSON.parse(asked.get("filters") || "[]"); } catch { /* an address that was cut */ }
  return { name: decodeURIComponent(name || ""), filters, view: asked.get("view") || "" };
}

function showTables() {
  const wanted = document.getElementById("search").value.toLowerCase();
  const now = place().name;
  const links = schema.tables.filter((each) => each.name.toLowerCase().includes(wanted)).map((each) => {
    const link = make("a", { href: address(each.name), title: each.name },
      make("span", { textContent: each.name }), make("small", { textContent: each.kind === "view" ? "view" : counted(each.count) }));
    if (each.name === now) link.setAttribute("aria-current", "page");
    return link;
  });
  document.getElementById("tables").replaceChildren(
    ...(links.length ? links : [make("p", { className: "empty", textContent: schema.tables.length ? "No such table" : "No tables yet" })]));
  document.querySelector("#tables [aria-current]")?.scrollIntoView({ block: "nearest" });
  document.getElementById("to-sql").toggleAttribute("aria-current", now === "sql" && !schema.tables.some((each) => each.name === "sql"));
}

async function show() {
  turn += 1;  // an answer that is still on its way is for a view that was left
  dialog.close();
  showTables();
  const { name, filters, view } = place();
  const table = schema.tables.find((each) => each.name === name);
  if (table && view === "schema") showSchema(table);
  else if (table) await showRows(table, filters, [], null);
  else if (name === "sql") showSql();
  else if (schema.tables.length && !name) location.replace(address(schema.tables[0].name));
  else main.replaceChildren(make("p", { className: "empty", textContent: name ? `There is no table ${name}.` : "This database has no tables yet." }));
}

function head(table, view, filters = []) {
  const tab = (text, which) => {
    const link = make("a", { href: address(table.name, [], which), textContent: text });
    if (which === view) link.setAttribute("aria-current", "page");
    return link;
  };
  return make("div", { className: "bar" }, make("h2", { textContent: table.name }),
    make("span", { className: "quiet", textContent: table.kind === "view" ? "view" : `${counted(table.count)} row${table.count?.rows === 1 ? "" : "s"}${filters.length ? " in all" : ""}` }),
    make("span", { className: "grow" }), make("span", { className: "tabs" }, tab("Rows", ""), tab("Schema", "schema")));
}

// -- rows ----------------------------------------------------------------------------------------------

async function showRows(table, filters, before, after) {
  const mine = ++turn;
  const query = new URLSearchParams({ table: table.name, filters: JSON.stringify(filters) });
  if (after) query.set("after", JSON.stringify(after));
  let found;
  try {
    found = await ask(`rows?${query}`);
  } catch (error) {
    if (mine === turn) main.replaceChildren(head(table, "", filters), filterBar(table, filters), make("p", { className: "error", role: "alert", textContent: error.message }));
    return;
  }
  if (mine !== turn) return;
  const again = () => showRows(schema.tables.find((each) => each.name === table.name) ?? table, filters, before, after);
  const last = found.rows.at(-1);
  const previous = make("button", { textContent: "← Previous", "data-spot": "previous", disabled: !before.length,
    onclick: () => showRows(table, filters, before.slice(0, -1), before.at(-1)) });
  const next = make("button", { textContent: "Next →", "data-spot": "next", disabled: !found.more || !table.told_apart,
    onclick: () => showRows(table, filters, [...before, after], last.key) });
  const start = before.length * 50;
  const where = found.rows.length ? `Rows ${(start + 1).toLocaleString("en")}–${(start + found.rows.length).toLocaleString("en")}${filters.length ? " of those that match" : ""}` : "";
  const spot = document.activeElement?.dataset.spot;
  main.replaceChildren(head(table, "", filters), filterBar(table, filters),
    found.rows.length ? grid(table, found.rows, again) : make("p", { className: "empty", textContent: filters.length ? "No row matches." : "This table is empty." }),
    make("div", { className: "bar" }, make("span", { className: "quiet", textContent: where }),
      found.more && !table.told_apart ? make("span", { className: "quiet", textContent: "Only the first rows: nothing tells them apart." }) : null,
      edited(table) && found.rows.length ? make("span", { className: "quiet", textContent: "Double-click or Enter edits a value." }) : null,
      make("span", { className: "grow" }),
      schema.writable && table.kind === "table" ? make("button", { textContent: "Add row", "data-spot": "add", onclick: () => addRow(table, again) }) : null,
      previous, next));
  markCut();
  keepFocus(spot);
}

// Who pages or edits by the keyboard goes on from the same place.
function keepFocus(spot) {
  if (!spot) return;
  const same = main.querySelector(`[data-spot="${spot}"]`);
  (same && !same.disabled ? same : main.querySelector(".grid") ?? main).focus();
}

// What the width of a column hides is shown whole on demand. All are measured before the page changes: a layout for each takes half a minute.
function markCut() {
  const hidden = (text) => text.scrollWidth > text.clientWidth || text.textContent.includes("\n");
  const cut = [...main.querySelectorAll("td .value")].filter((value) => value.whole && value.childNodes.length === 1 && hidden(value.firstChild));
  for (const value of cut)
    value.append(make("button", { className: "cut", textContent: "more", "aria-label": `Whole value of ${value.whole.name}`, onclick: value.whole.show }));
}

function filterBar(table, filters) {
  const column = make("select", { "aria-label": "Column" }, ...table.columns.map((each) => make("option", { textContent: each.name, value: each.name })));
  const comparison = make("select", { "aria-label": "Comparison" }, ...schema.comparisons.map((each) => make("option", { textContent: each, value: each })));
  const value = make("input", { placeholder: "value", "aria-label": "Value", autocomplete: "off" });
  comparison.onchange = () => { value.hidden = comparison.value.endsWith("null"); };
  const form = make("form", { className: "bar" }, column, comparison, value, make("button", { textContent: "Filter", "data-spot": "filter" }));
  form.onsubmit = (event) => {
    event.preventDefault();
    location.hash = address(table.name, [...filters, [column.value, comparison.value, value.hidden ? "" : value.value]]);
  };
  const chips = filters.map((each, place) => make("span", { className: "chip" }, each.join(" "),
    make("button", { textContent: "×", "aria-label": `Remove filter ${each.join(" ")}`,
      onclick: () => { location.hash = address(table.name, filters.filter((_, other) => other !== place)); } })));
  return make("div", { className: "bar" }, form, ...chips);
}

const edited = (table) => schema.writable && table.kind === "table" && table.told_apart;
const isNumber = (column) => NUMBERS.test(column.base) && !column.array;

function grid(table, rows, again) {
  const edits = edited(table);
  const titles = table.columns.map((each) => make("th", { scope: "col", className: isNumber(each) ? "number" : "" }, each.name + (table.key.includes(each.name) ? " · key" : ""),
    make("small", { textContent: each.type })));
  if (edits) titles.push(make("th", { scope: "col", className: "side", "aria-label": "Actions" }));
  const body = rows.map((row, line) => {
    const cells = table.columns.map((column, place) => cell(table, row, column, [line, place], edits, again));
    if (edits) cells.push(make("td", { className: "side" }, make("button", { className: "icon", textContent: "✕", "data-spot": `delete ${line}`, "aria-label": "Delete row", title: "Delete row", onclick: () => removeRow(table, row, again) })));
    return make("tr", {}, ...cells);
  });
  const grid = make("div", { className: "grid", tabIndex: 0, role: "region", "aria-label": `Rows of ${table.name}` },
    make("table", {}, make("thead", {}, make("tr", {}, ...titles)), make("tbody", {}, ...body)));
  if (edits) grid.onkeydown = moveBetweenCells;
  return grid;
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

// One stop of the Tab key for all values, as in a spreadsheet: the arrows go from one to the next.
function moveBetweenCells(event) {
  const step = ARROWS[event.key];
  const at = event.target.closest?.("td[tabindex]");
  if (!step || event.target !== at) return;
  event.preventDefault();
  let line = at.parentElement.rowIndex, place = at.cellIndex, found;
  const table = at.closest("table");
  do {
    line += step[0]; place += step[1];
    found = line > 0 ? table.rows[line]?.cells[place] : undefined;
  } while (found && !found.hasAttribute("tabindex"));
  if (!found) return;
  at.tabIndex = -1;
  found.tabIndex = 0;
  found.focus();
}

function cell(table, row, column, [line, place], edits, again) {
  const [text, length] = row.cells[place];
  const node = make("td", { className: isNumber(column) ? "number" : "" });
  if (text === null) node.append(make("span", { className: "null", textContent: "null" }));
  else {
    const shown = text.length > 120 ? `${text.slice(0, 120)}…` : text;
    const reference = table.foreign_keys.find((each) => each.columns.includes(column.name));
    const target = reference && filtersOf(table, row, reference);
    const value = make("div", { className: "value" }, target
      ? make("a", { href: address(reference.target, target), textContent: shown, title: `Show in ${reference.target}` })
      : make("span", { textContent: shown }));
    value.whole = { name: column.name, show: () => wholeValue(table, row, column) };
    node.append(value);
    if (text.length > 120 || length > text.length) {
      value.append(make("button", { className: "cut", textContent: "more", "aria-label": `Whole value of ${column.name}`, onclick: value.whole.show }));
    }
  }
  if (edits && !column.fixed) {
    node.tabIndex = line === 0 && table.columns.findIndex((each) => !each.fixed) === place ? 0 : -1;
    node.dataset.spot = `${line} ${place}`;
    node.title = "Double-click or Enter edits";
    node.ondblclick = () => editValue(table, row, column, again);
    node.onkeydown = (event) => { if (event.key === "Enter" && event.target === node) { event.preventDefault(); node.ondblclick(); } };
  }
  return node;
}

function filtersOf(table, row, reference) {
  const values = reference.columns.map((name) => row.cells[table.columns.findIndex((each) => each.name === name)][0]);
  return values.includes(null) ? null : reference.target_columns.map((name, place) => [name, "=", values[place]]);
}

// -- one value, one row --------------------------------------------------------------------------------

function open(title, ...content) {
  const form = content.find((each) => each.tagName === "FORM");
  const close = make("button", { textContent: form ? "Cancel" : "Close", type: "button", onclick: () => dialog.close() });
  const foot = form?.querySelector(".foot") ?? make("div", { className: "bar foot" });
  foot.append(close);
  dialog.replaceChildren(make("h2", { textContent: title, id: "dialog-title" }), ...content, ...(form ? [] : [foot]));
  dialog.showModal();
}

const foot = (does, className = "main") => make("div", { className: "bar foot" },
  make("p", { className: "error", role: "alert" }), make("button", { className, textContent: does }));

function showWhole(name, text, length, json) {
  let shown = text;
  if (json) { try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* as it is */ } }
  open(name, make("p", { className: "quiet", textContent: `Length ${length.toLocaleString("en")}${length > text.length ? ", of which the beginning is shown" : ""}` }),
    make("pre", { textContent: shown, tabIndex: 0 }));
}

async function wholeValue(table, row, column) {
  try {
    const [text, length] = row.cells[table.columns.indexOf(column)];
    const found = table.told_apart ? await ask("value", { table: table.name, key: row.key, column: column.name }) : { text, length };
    showWhole(column.name, found.text ?? "null", found.length, column.base.toLowerCase().startsWith("json"));
  } catch (error) { tell(error.message); }
}

async function editValue(table, row, column, again) {
  let before;
  try { before = await ask("value", { table: table.name, key: row.key, column: column.name }); } catch (error) { tell(error.message); return; }
  if (before.text !== null && before.length > before.text.length) { tell("This value is too long to be edited here."); return; }
  const area = make("textarea", { value: before.text ?? "", "aria-label": "New value" });
  const nothing = make("input", { type: "checkbox", checked: before.text === null });
  const form = make("form", {}, area, make("label", {}, nothing, " null"),
    make("p", { className: "quiet", textContent: "Ctrl+Enter saves." }), foot("Save"));
  nothing.onchange = () => { area.disabled = nothing.checked; };
  nothing.style.width = "auto";
  area.disabled = nothing.checked;
  form.onsubmit = (event) => {
    event.preventDefault();
    settle(form, "change", { table: table.name, key: row.key, column: column.name, before: before.text, after: nothing.checked ? null : area.value }, again);
  };
  area.onkeydown = (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); };
  open(`Edit ${column.name}`, form);
  if (!area.disabled) area.focus();
}

function addRow(table, again) {
  const inputs = table.columns.filter((each) => !each.fixed).map((each) => [each,
    make("input", { placeholder: each.default ? "default" : each.not_null ? "required" : "null", autocomplete: "off" })]);
  const form = make("form", {}, ...inputs.map(([column, input]) => make("label", {}, `${column.name} `, make("span", { className: "quiet", textContent: column.type }), input)),
    foot("Add"));
  form.onsubmit = (event) => {
    event.preventDefault();
    const given = inputs.filter(([, input]) => input.value !== "").map(([column, input]) => [column.name, input.value]);
    settle(form, "add", { table: table.name, values: Object.fromEntries(given) }, again);
  };
  open(`Add a row to ${table.name}`, make("p", { className: "quiet", textContent: "What is left empty is filled in by the database." }), form);
}

function removeRow(table, row, again) {
  const form = make("form", {}, make("p", { textContent: `The row ${row.key.join(", ")} of ${table.name} will be gone.` }),
    foot("Delete", "bad"));
  form.onsubmit = (event) => { event.preventDefault(); settle(form, "remove", { table: table.name, key: row.key }, again); };
  open("Delete this row?", form);
}

async function settle(form, path, body, again) {
  try {
    await ask(path, body);
    dialog.close();
    tell("Saved.");
    schema = await ask("schema");
    showTables();
    await again();
  } catch (error) { form.querySelector(".error").textContent = error.message; }
}

// -- schema and SQL ------------------------------------------------------------------------------------

function showSchema(table) {
  const refers = (column) => table.foreign_keys.filter((each) => each.columns.includes(column.name));
  const rows = table.columns.map((each) => make("tr", {},
    make("td", { textContent: each.name + (table.key.includes(each.name) ? " · key" : "") }), make("td", {}, each.type || "any", each.labels.length ? make("small", { textContent: each.labels.join(", ") }) : null),
    make("td", { textContent: each.not_null ? "" : "yes" }), make("td", { textContent: each.fixed ? "always" : each.default ? "yes" : "" }),
    make("td", {}, ...refers(each).map((other) => make("a", { href: address(other.target, [], "schema"), textContent: `${other.target} (${other.target_columns.join(", ")})` })))));
  const titles = ["Column", "Type", "Null", "Filled in", "Refers to"].map((each) => make("th", { scope: "col", textContent: each }));
  const others = table.referred_by.map((each) => make("p", {}, make("a", { href: address(each.table, [], "schema"), textContent: `${each.table} (${each.columns.join(", ")})` })));
  main.replaceChildren(head(table, "schema"),
    make("div", { className: "grid" }, make("table", {}, make("thead", {}, make("tr", {}, ...titles)), make("tbody", {}, ...rows))),
    others.length ? make("section", {}, make("h3", { textContent: "Referred to by" }), ...others) : make("span"));
}

function answered(name, value) {
  if (value === null) return make("span", { className: "null", textContent: "null" });
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  const node = make("div", { className: "value" }, make("span", { textContent: text.slice(0, 1000) }));
  node.whole = { name, show: () => showWhole(name, text, text.length, typeof value === "object") };
  return node;
}

function showSql() {
  const area = make("textarea", { value: sqlText, "aria-label": "SQL", spellcheck: false, placeholder: "SELECT …" });
  const result = make("div", { className: "grid", tabIndex: 0, role: "region", "aria-label": "Result" });
  result.hidden = true;
  const says = make("p", { className: "quiet", role: "status", textContent: "Read-only, 15 seconds and 500 rows at most. Ctrl+Enter runs it." });
  const run = make("button", { className: "main", textContent: "Run" });
  const go = async () => {
    sqlText = area.value;
    run.disabled = true;
    says.className = "quiet";
    says.textContent = "Running…";
    const begun = performance.now();
    try {
      const found = await ask("query", { sql: area.value });
      const took = Math.round(performance.now() - begun);
      const kind = found.columns.map((each, place) => NUMBERS.test(each.type) || typeof found.rows[0]?.[place] === "number" ? "number" : "");
      const titles = found.columns.map((each, place) => make("th", { scope: "col", className: kind[place] }, each.name, make("small", { textContent: each.type })));
      const rows = found.rows.map((row) => make("tr", {}, ...row.map((value, place) => make("td", { className: kind[place] }, answered(found.columns[place].name, value)))));
      result.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...titles)), make("tbody", {}, ...rows)));
      result.hidden = false;
      markCut();
      const count = `${found.rows.length} row${found.rows.length === 1 ? "" : "s"} in ${took} ms`;
      says.textContent = found.truncated ? `Only the first ${count}; there are more.` : count;
    } catch (error) {
      result.hidden = true;
      says.className = "error";
      says.textContent = error.message;
    }
    run.disabled = false;
  };
  run.onclick = go;
  area.onkeydown = (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) go(); };
  main.replaceChildren(make("div", { className: "bar" }, make("h2", { textContent: "SQL" })), area, make("div", { className: "bar" }, run, says), result);
  area.focus();
}

try {
  schema = await ask("schema");
  document.title = `${schema.name} · Studio`;
  document.getElementById("database").textContent = schema.name;
  document.getElementById("about").textContent = `${schema.engine === "postgres" ? "PostgreSQL" : "SQLite"}${schema.writable ? ", may change rows" : ", read only"}`;
  document.getElementById("search").oninput = showTables;
  addEventListener("hashchange", show);
  await show();
} catch (error) {
  main.replaceChildren(make("p", { className: "error", role: "alert", textContent: error.message }));
}
