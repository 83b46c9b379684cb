"use strict";
(() => {
  const root = document.documentElement;
  const themes = ["auto", "light", "dark"];
  const toggle = document.getElementById("theme");
  const keep = {
    get() { try { return localStorage.getItem("lmmcl-theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("lmmcl-theme", value); } catch { /* a page from disk may not keep it */ } },
  };
  const show = (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    toggle.textContent = `Theme: ${theme}`;
    toggle.dataset.now = theme;
  };
  show(themes.includes(keep.get()) ? keep.get() : "auto");
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    const next = themes[(themes.indexOf(toggle.dataset.now) + 1) % themes.length];
    keep.set(next);
    show(next);
  });

  const tip = document.getElementById("tip");
  const hide = () => { tip.hidden = true; };
  const tell = (target) => {
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    const box = target.getBoundingClientRect();
    const width = tip.offsetWidth, height = tip.offsetHeight;
    const left = Math.min(Math.max(8, box.left + box.width / 2 - width / 2), root.clientWidth - width - 8);
    const above = box.top - height - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 4 ? above : box.bottom + 8}px`;
  };
  const found = (event) => event.target.closest ? event.target.closest("[data-tip]") : null;
  for (const name of ["pointerover", "focusin", "click"]) {
    document.addEventListener(name, (event) => { const target = found(event); if (target) tell(target); else if (name !== "focusin") hide(); });
  }
  document.addEventListener("focusout", hide);
  addEventListener("scroll", hide, { passive: true, capture: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  for (const matrix of document.querySelectorAll("table.matrix")) {
    const rows = [...matrix.tBodies].flatMap((body) => [...body.rows]).map((row) => [...row.querySelectorAll("td")]);
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    matrix.addEventListener("keydown", (event) => {
      const move = moves[event.key];
      const row = rows.findIndex((cells) => cells.includes(event.target));
      if (!move || row < 0) return;
      const next = rows[row + move[0]]?.[rows[row].indexOf(event.target) + move[1]];
      if (!next) return;
      event.preventDefault();
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const value = (row, column) => {
      const cell = row.cells[column];
      const key = cell.dataset.key ?? cell.textContent.trim();
      const number = Number(key);
      return key === "" ? null : Number.isNaN(number) ? key.toLowerCase() : number;
    };
    const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
    const heads = [...table.tHead.rows[0].cells];
    for (const [column, head] of heads.entries()) {
      const button = head.querySelector("button");
      if (!button) continue;
      button.addEventListener("click", () => {
        const first = head.dataset.first ?? "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === first ? other : first;
        for (const one of heads) one.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const keyed = [...body.rows].map((row) => [value(row, column), row]);
        keyed.sort(([a], [b]) => a === null ? (b === null ? 0 : 1) : b === null ? -1 : sign * compare(a, b));
        body.append(...keyed.map(([, row]) => row));
      });
    }
  }
  addEventListener("beforeprint", () => { for (const one of document.querySelectorAll("details")) one.open = true; });
})();
