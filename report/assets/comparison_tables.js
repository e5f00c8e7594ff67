// The tables of the comparison, made anew after each change of the choice.
const ComparisonTables = (() => {
  const { figure, make } = Report;
  const { DATA, byId, classesOf, missing, named, note, ofClass, own, published } = Comparison;
  const { pick, plusMinus, publishedFigure, publishedLabel, rowClasses, shown, small, state } = Comparison;

  function columnHead(content, attributes = {}) {
    return make("th", { scope: "col", ...attributes }, content);
  }

  function rowHead(...content) {
    return make("th", { scope: "row" }, ...content);
  }

  function fill(id, head, rows) {
    byId(id).replaceChildren(make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
  }

  // Marks the cells that show the highest of their values, where there is something to choose from.
  function markBest(cells) {
    const known = cells.filter(({ value }) => value !== null);
    const best = Math.max(...known.map(({ value }) => value));
    const marked = known.length > 1 ? known.filter(({ value }) => figure(value) === figure(best)) : [];
    for (const { cell } of marked) {
      cell.classList.add("best");
      cell.append(make("span", { class: "hidden-visually" }, " best"));
    }
  }

  // Means over classes

  function sorted(entries) {
    const { column, descending } = state.sort;
    if (column === null) {
      return entries;
    }
    const sign = descending ? -1 : 1;
    if (column < 0) {
      return entries.sort((a, b) => sign * a.label.localeCompare(b.label, "en", { numeric: true }));
    }
    const value = (entry) => entry.means.mean[column];
    const known = entries.filter((entry) => value(entry) !== null).sort((a, b) => sign * (value(a) - value(b)));
    return [...known, ...entries.filter((entry) => value(entry) === null)];
  }

  function means() {
    const entries = sorted(shown());
    const classes = classesOf(entries);
    const columns = DATA.metrics.map(() => []);
    const rows = entries.map((entry) => meanRow(entry, missing(entry, classes).length === 0, columns));
    columns.forEach(markBest);
    byId("means").tBodies[0].replaceChildren(...rows);
    byId("means-notes").replaceChildren(...meanNotes(entries, classes));
  }

  // The row of an entry; where it has every class, its cells compete for the best of their columns.
  function meanRow(entry, whole, columns) {
    const cells = DATA.metrics.map((_, i) => {
      const found = pick(entry.means, i);
      const cell = make("td", {}, ...plusMinus(found));
      if (whole) {
        columns[i].push({ cell, value: found.mean });
      }
      return cell;
    });
    const count = entry.members.length > 1 ? [small(`${entry.members.length} seeds`)] : [];
    const head = rowHead(named(entry), ...count, ...(whole ? [] : [small("not comparable")]));
    return make("tr", { class: whole ? null : "apart" }, head, ...cells);
  }

  function meanNotes(entries, classes) {
    if (!entries.length) {
      return [note("No run is chosen.")];
    }
    const apart = entries.filter((entry) => missing(entry, classes).length);
    return apart.map((entry) => {
      const without = missing(entry, classes);
      const count = `its means are over ${classes.length - without.length} of ${classes.length} classes`;
      const reason = entry.partial.length
        ? `not all of its seeds have ${without.join(", ")}; its means are`
        : `without ${without.join(", ")}; ${count},`;
      return note(`${entry.label}: ${reason} not comparable with the others.`);
    });
  }

  function sortBy(button) {
    const column = Number(button.dataset.column);
    const again = state.sort.column === column;
    state.sort = { column, descending: again ? !state.sort.descending : column >= 0 };
    for (const other of document.querySelectorAll("#means .sort")) {
      const direction = state.sort.descending ? "descending" : "ascending";
      other.closest("th").setAttribute("aria-sort", other === button ? direction : "none");
    }
    means();
  }

  // Class by class

  function classes() {
    const names = rowClasses();
    const head = [columnHead("class"), ...shown().map((entry) => columnHead(named(entry)))];
    head.push(...published().map((method, i) => columnHead(publishedLabel(method), { class: publishedClass(i) })));
    const rows = names.map((name) => classRow(name));
    fill("class-table", head, [...rows, totalRow(names)]);
    const text = "*: there is no figure for some of the classes; the mean is not comparable with the others.";
    const starred = shown().some((entry) => isIncomplete(entry, names));
    byId("class-notes").replaceChildren(...(starred ? [note(text)] : []));
  }

  function publishedClass(place) {
    return place === 0 ? "published first" : "published";
  }

  function publishedCells(name) {
    const cell = (method, i) => make("td", { class: publishedClass(i) }, figure(publishedFigure(method, name)));
    return published().map(cell);
  }

  function classRow(name) {
    const cells = shown().map((entry) => {
      const found = ofClass(entry, name, state.metric);
      return { cell: make("td", {}, ...plusMinus(found)), value: found.mean };
    });
    markBest(cells);
    return make("tr", {}, rowHead(name), ...cells.map(({ cell }) => cell), ...publishedCells(name));
  }

  function totalRow(names) {
    const cells = shown().map((entry) => {
      const found = pick(entry.means, state.metric);
      const cell = make("td", {}, ...plusMinus(found));
      const whole = !isIncomplete(entry, names);
      cell.prepend(whole ? "" : "* ");
      return { cell, value: whole ? found.mean : null };
    });
    markBest(cells);
    const row = make("tr", { class: "total" }, rowHead("mean"), ...cells.map(({ cell }) => cell));
    row.append(...publishedCells(null));
    return row;
  }

  function isIncomplete(entry, names) {
    return entry.partial.length > 0 || names.some((name) => ofClass(entry, name, state.metric).mean === null);
  }

  // Defects of one class: the lower a figure, the stronger its colour.

  function defects() {
    const entries = shown().filter((entry) => own(entry.classes, state.className));
    const of = (entry) => own(entry.defects, state.className) ?? {};
    const names = [...new Set(entries.flatMap((entry) => Object.keys(of(entry))))].sort();
    const found = entries.map((entry) => names.map((name) => pick(own(of(entry), name), state.defectMetric)));
    const known = found.flat().map(({ mean }) => mean).filter((mean) => mean !== null);
    const low = Math.min(1, ...known);
    const rows = entries.map((entry, i) => {
      const cells = found[i].map((figures) => heatCell(figures, low));
      return make("tr", {}, rowHead(named(entry)), ...cells);
    });
    fill("defects", [columnHead("run"), ...names.map((name) => columnHead(name))], rows);
    byId("scale").hidden = !known.length;
    byId("scale-low").textContent = figure(low);
    byId("scale-high").textContent = figure(1);
  }

  function heatCell(found, low) {
    const cell = make("td", { class: found.mean === null ? null : "heat" }, ...plusMinus(found));
    if (found.mean !== null && low < 1) {
      cell.style.setProperty("--heat", String((1 - found.mean) / (1 - low)));
    }
    return cell;
  }

  // Settings that are not the same in all runs. Branches have those of the whole method.

  function settings() {
    const entries = shown().filter((entry) => !entry.branch);
    const names = new Set(entries.flatMap((entry) => Object.keys(entry.settings)));
    const telling = [...names].filter((name) => new Set(entries.map((entry) => own(entry.settings, name))).size > 1);
    const rows = telling.map((name) => {
      const cells = entries.map((entry) => make("td", { class: "text" }, own(entry.settings, name) ?? "-"));
      return make("tr", {}, rowHead(name), ...cells);
    });
    const heads = entries.map((entry) => columnHead(named(entry), { class: "text" }));
    fill("settings", [columnHead("setting"), ...heads], rows);
    byId("settings-box").hidden = !rows.length;
    byId("settings-note").hidden = rows.length > 0;
  }

  function draw() {
    [means, classes, defects, settings].forEach((table) => table());
  }

  return { draw, sortBy };
})();
