// The page: the numbers become text. All that comes from the trace goes in as the text of nodes.
"use strict";

(() => {
    const FIRST = 100; // rows of a table that are shown at first
    const NAMES = {
        postgres: "PostgreSQL", redis: "Redis", pool: "Waiting for a connection", sleep: "Sleep", wait: "Other waits",
        lua: "Lua and dbrun", rest: "Everything else", other: "Transaction",
    };
    const STATES = {
        22012: "division by zero", 23502: "not null violation", 23503: "foreign key violation",
        23505: "unique violation", 23514: "check violation", "25P02": "transaction has failed",
        40001: "serialization failure", "40P01": "deadlock", 42601: "syntax error", 42703: "no such column",
        "42P01": "no such table", "55P03": "lock not available", 57014: "cancelled or out of time",
        "57P01": "ended by the administrator",
    };
    const WAYS = {
        rows: "rows()", copy: "COPY", pipeline: "pipeline", piped: "in a pipeline", shared: "shared connection",
    };
    const $ = id => document.getElementById(id);

    // ---- text ----

    // What has no picture, or turns the line around, is shown by its code.
    const visible = text => String(text).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu,
        c => c === "\n" || c === "\t" ? c : "\\u{" + c.codePointAt(0).toString(16) + "}");
    const line = (text, most = 300) => {
        const one = visible(String(text).slice(0, most * 2).replace(/\s+/g, " ").trim());
        return one.length > most ? one.slice(0, most) + "…" : one;
    };
    const count = n => String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, ",");
    const many = (n, one, more = one + "s") => count(n) + " " + (n === 1 ? one : more);
    const digits = n => n < 9.995 ? n.toFixed(2) : n < 99.95 ? n.toFixed(1) : n.toFixed(0);
    function time(us) {
        if (us < 1) return us > 0 ? "<1 µs" : "0";
        if (us < 999.5) return us.toFixed(0) + " µs";
        if (us < 999500) return digits(us / 1e3) + " ms";
        if (us < 99.95e6) return digits(us / 1e6) + " s";
        const s = Math.round(us / 1e6), m = Math.floor(s / 60);
        return m < 60 ? m + " min " + s % 60 + " s" : Math.floor(m / 60) + " h " + m % 60 + " min";
    }
    function percent(part, whole) {
        const p = whole > 0 ? part / whole * 100 : 0;
        return p > 0 && p < .1 ? "<0.1 %" : (p ? p.toFixed(p < 99.95 ? 1 : 0) : "0") + " %";
    }
    function tick(ts, step) {
        const [unit, name] = step >= 1e6 ? [1e6, "s"] : step >= 1e3 ? [1e3, "ms"] : [1, "µs"];
        return count(ts / unit) + " " + name;
    }

    // ---- elements ----

    function el(tag, attributes, ...inside) {
        const made = document.createElement(tag);
        for (const [key, value] of Object.entries(attributes))
            if (typeof value === "function") made.addEventListener(key, value);
            else made.setAttribute(key, value);
        made.append(...inside);
        return made;
    }
    const cell = (content, kind = "") => el("td", { class: kind }, content);
    const figure = text => cell(text, "n");
    const code = text => el("code", {}, line(text));
    const swatch = kind => el("span", { class: "swatch " + kind, title: NAMES[kind] });
    const note = text => el("p", { class: "note" }, text);

    function head(table, columns) {
        table.replaceChildren(el("thead", {}, el("tr", {}, ...columns)), el("tbody", {}));
        return table.tBodies[0];
    }
    const titles = (names, texts) => names.map((name, i) => el("th", { class: texts.includes(i) ? "" : "n" }, name));

    // ---- the parts of the page ----

    function header({ run, end, spans, totals }) {
        const parts = [time(end) + " in all", many(spans, "event")];
        if (run.script) $("title").textContent = line(run.script);
        if (run.script) document.title = line(run.script, 80) + " - dbrun trace";
        if (totals && totals.status !== undefined) parts.push("exit status " + line(totals.status));
        if (run.started) parts.push("began " + line(run.started));
        if (run.version) parts.push("dbrun " + line(run.version));
        $("about").textContent = parts.join(" · ");
    }

    const notice = text => $("notices").append(el("p", { class: "notice" }, text));

    function notices(result) {
        const { ended, cut, bad, unfinished, totals, spans, run } = result;
        if (!ended)
            notice("This trace has no end: the script still ran when it was copied, or was killed. " +
                (cut ? "Its last line is cut and was dropped. " : "") + "The last second of it may be missing.");
        if (bad) notice(many(bad, "line") + " could not be read and " + (bad === 1 ? "was" : "were") + " left out.");
        if (unfinished) notice(many(unfinished, "event") + " had begun and not ended when the trace ended.");
        if (totals && totals.left_out > 0)
            notice(many(totals.left_out, "short event") + " (the last limit: " + time(totals.least_us) +
                ") had no room in the file and are not on the timeline. The times and the table count them. " +
                "A larger --trace-limit keeps more of them.");
        if (run.format > 1)
            notice("A newer dbrun wrote this trace (format " + line(run.format) + "): numbers may be missing.");
        if (!spans) notice("No events: the script asked no database and waited for nothing.");
    }

    function times(result) {
        const label = [];
        for (const row of result.times) {
            const part = percent(row.share, result.end);
            label.push(NAMES[row.kind] + " " + part);
            if (!(row.share > 0)) continue;
            const wide = row.share / result.end;
            const piece = el("div", { class: row.kind, title: NAMES[row.kind] + ": " + time(row.share) });
            if (wide > .2) piece.append(NAMES[row.kind] + " ");
            if (wide > .06) piece.append(part);
            piece.style.flex = wide + " 0 0";
            $("bar").append(piece);
        }
        $("bar").setAttribute("aria-label", label.join(", "));
        const body = head($("times"), titles(["", "of the run", "time", "all tasks added", "events"], [0]));
        for (const { kind, share, sum, calls } of result.times)
            if (share > 0 || sum > 0 || kind === "lua" || kind === "postgres")
                body.append(el("tr", {}, el("td", {}, swatch(kind), NAMES[kind]), figure(percent(share, result.end)),
                    figure(time(share)), figure(sum ? time(sum) : ""), figure(calls ? count(calls) : "")));
        const added = result.times.reduce((n, row) => n + (row.kind === "lua" ? 0 : row.sum), 0) / result.end;
        const side = added > 1.1 ? " Tasks waited side by side, in all " + digits(added) + " times as long as the " +
            "run: of what several waited for, the first counts." : "";
        $("times-note").textContent = "Lua and dbrun: the program itself ran." + side;
    }

    function advice({ category, sql }) {
        const word = line(sql).slice(0, 6).toLowerCase();
        if (category === "redis") return "A pipeline, or a command for several keys, makes one trip of them.";
        if (word === "insert") return "copy_in, or one INSERT for many rows, makes one trip of them.";
        if (word === "update" || word === "delete")
            return "One statement for all (where id = any($1)), or a pipeline, makes one trip of them.";
        return "One statement for all (a join, or where id = any($1)) makes one trip of them.";
    }

    function hint(r, end) {
        const s = r.statement, all = s.calls > s.written ? "at least " : "";
        return el("li", {}, code(s.sql), " was called ", el("b", {}, all + many(r.calls, "time")),
            ...(s.place ? [" from ", code(s.place)] : []), " within one task",
            r.tasks > 1 ? " (other tasks do the same: " + count(r.tasks - 1) + ")" : "",
            ": " + time(r.total) + ", " + percent(r.total, end) + " of the run. " + advice(s),
            s.texts > 1 ? " The texts differ in values only: as parameters ($1) they are one prepared statement." : "");
    }

    function hints({ repeated, failed, end }) {
        const items = repeated.slice(0, 8).map(r => hint(r, end));
        if (repeated.length > 8) items.push(el("li", {}, many(repeated.length - 8, "more") + " like these."));
        if (failed) items.push(el("li", {}, el("a", { href: "#h-errors", class: "bad" }, many(failed, "error")), "."));
        if (!items.length) items.push(el("li", {}, "Nothing: no statement was called over and over, none failed."));
        $("hints").append(...items);
    }

    const COLUMNS = [
        ["total", s => s.total], ["share", s => s.total], ["calls", s => s.calls], ["mean", s => s.mean],
        ["p95", s => s.p95], ["longest", s => s.max], ["rows", s => s.rows], ["errors", s => s.errors],
        ["place", s => s.place, true], ["statement", s => s.sql, true],
    ];

    function statements(result) {
        const all = result.statements.reduce((n, s) => n + (s.category === "piped" ? 0 : s.total), 0);
        const open = new Set();
        let by = 0, down = true, most = FIRST;

        function details(s) {
            const parts = [el("pre", {}, visible(s.sql))];
            const facts = [line(s.place), WAYS[s.category], many(s.tasks.size, "task")];
            if (s.texts > 1) facts.push(many(s.texts, "text") + " that differ in values only, of which this is one");
            parts.push(note(facts.filter(Boolean).join(" · ")));
            return el("tr", {}, el("td", { colspan: COLUMNS.length }, ...parts));
        }

        function row(s) {
            const toggle = () => {
                if (!open.delete(s)) open.add(s);
                fill();
            };
            const button = el("button", { type: "button", "aria-expanded": open.has(s), click: toggle }, line(s.sql));
            const way = WAYS[s.category] ? el("span", { class: "way" }, WAYS[s.category]) : "";
            return el("tr", {}, figure(time(s.total)), figure(s.category === "piped" ? "" : percent(s.total, all)),
                figure(count(s.calls)), figure(time(s.mean)), figure(time(s.p95)), figure(time(s.max)),
                figure(s.counted ? count(s.rows) : ""), cell(s.errors ? count(s.errors) : "", "n bad"),
                el("td", { class: "place", title: line(s.place) }, code(s.place)),
                el("td", { class: "sql" }, el("div", {}, swatch(s.kind), button, way)));
        }

        function title([name, , text], i) {
            const sort = () => {
                [by, down] = [i, i === by ? !down : !text];
                fill();
                $("statements").tHead.rows[0].cells[i].firstChild.focus();
            };
            const made = el("th", { class: text ? "" : "n" }, el("button", { type: "button", click: sort }, name));
            if (i === by) made.setAttribute("aria-sort", down ? "descending" : "ascending");
            return made;
        }

        function fill() {
            const value = COLUMNS[by][1], wanted = $("filter").value.toLowerCase();
            const list = result.statements.filter(s => (s.sql + "\n" + s.place).toLowerCase().includes(wanted));
            const order = (a, b) => value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0;
            list.sort((a, b) => (down ? order(b, a) : order(a, b)) || b.total - a.total);
            const body = head($("statements"), COLUMNS.map(title));
            for (const s of list.slice(0, most)) body.append(row(s), ...(open.has(s) ? [details(s)] : []));
            $("shown").textContent = wanted ? count(list.length) + " of " + count(result.statements.length) : "";
            $("more").hidden = list.length <= most;
            $("more").textContent = "Show " + count(Math.min(list.length - most, 1000)) + " more";
        }

        $("statements-section").hidden = !result.statements.length;
        $("filter").addEventListener("input", fill);
        $("more").addEventListener("click", () => {
            most += 1000;
            fill();
        });
        document.addEventListener("keydown", e => {
            if (e.key !== "/" || e.ctrlKey || e.metaKey || e.target.tagName === "INPUT") return;
            $("filter").focus();
            e.preventDefault();
        });
        fill();
    }

    let view; // of the timeline

    function errors({ errors: list, failed }) {
        $("errors-section").hidden = !failed;
        const body = head($("errors"), titles(["number", "error", "place", "first after", "statement"], [1, 2, 4]));
        for (const e of list.slice(0, FIRST)) {
            const known = Object.hasOwn(STATES, e.name) ? STATES[e.name] : e.kind === e.name ? "" : e.kind;
            const name = line(e.name) + (known ? " " + line(known) : "");
            const go = () => view.go(e.first);
            const first = el("button", { type: "button", title: "show it on the timeline", click: go }, time(e.first));
            body.append(el("tr", {}, figure(count(e.calls)), cell(name, "place bad"),
                el("td", { class: "place", title: line(e.place) }, code(e.place)), figure(first),
                el("td", { class: "sql" }, line(e.sql))));
        }
        if (list.length > FIRST) $("errors").after(note(count(list.length - FIRST) + " more are not shown."));
    }

    // ---- the timeline and its events ----

    function events(result, text) {
        const told = new Map(); // what was looked at, by its place in the text
        function read(event) {
            if (!told.has(event.from)) told.set(event.from, numbers.parse(text, event.from, event.to));
            return told.get(event.from);
        }
        const args = e => e.args || {};
        const sql = e => typeof args(e).sql === "string" ? args(e).sql : String(e.name);
        const heading = (event, e) => el("b", {}, line(e.cat) + " · " + time(event.dur));

        function brief(event) {
            const e = read(event), parts = [heading(event, e), el("pre", {}, visible(sql(e)))];
            const { place, rows, sqlstate, kind } = args(e);
            const facts = [place, rows === undefined ? "" : many(rows, "row"), sqlstate || kind].filter(Boolean);
            return [...parts, note(facts.map(fact => line(fact)).join(" · "))];
        }

        function full(event) {
            const e = read(event), list = el("dl", {});
            const add = (name, value) => list.append(el("dt", {}, name), el("dd", {}, visible(value)));
            add("began after", time(event.ts));
            for (const [key, value] of Object.entries(args(e))) if (key !== "sql") add(line(key), value);
            return [heading(event, e), el("pre", {}, visible(sql(e))), list];
        }

        view = timeline({
            frame: $("frame"), canvas: $("canvas"), height: $("height"), result, shown: { tick, line },
            label: event => line(sql(read(event)), 200),
            onHover(event, px, py) {
                const tip = $("tip");
                tip.hidden = !event;
                if (!event) return;
                tip.replaceChildren(...brief(event));
                const { offsetWidth: wide, offsetHeight: high } = tip;
                tip.style.left = Math.max(4, Math.min(px + 14, innerWidth - wide - 8)) + "px";
                tip.style.top = (py + 20 + high > innerHeight ? Math.max(4, py - high - 12) : py + 16) + "px";
            },
            onSelect: event => $("details").replaceChildren(...(event ? full(event) : [note("No event is selected.")])),
        });
        $("in").addEventListener("click", () => view.zoom(.5));
        $("out").addEventListener("click", () => view.zoom(2));
        $("all").addEventListener("click", () => view.all());
        const drawn = result.events.length;
        if (drawn < result.spans)
            $("timeline-note").textContent = "The " + count(drawn) + " longest of " + count(result.spans) +
                " events. Where nothing stands, Lua ran or shorter events went on.";
        $("timeline-section").hidden = !result.spans;
    }

    function start() {
        try {
            const text = $("events") ? $("events").textContent : "", result = numbers.compute(text);
            $("main").hidden = false;
            for (const part of [header, notices, times, hints, statements, errors, events]) part(result, text);
        } catch (e) {
            $("main").hidden = false;
            notice("This trace cannot be shown: " + line(e && e.message || e) + ". If the file is larger than some " +
                "hundred MiB, trace again with a smaller --trace-limit, or with --trace FILE.json for Perfetto.");
            throw e; // for the console
        }
    }

    // After a first picture: reading may take seconds.
    document.addEventListener("DOMContentLoaded", () => requestAnimationFrame(() => setTimeout(start)));
})();
