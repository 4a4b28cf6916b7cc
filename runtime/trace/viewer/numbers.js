// The computing part: the lines of a trace (../README.md has their form) go in, the numbers that the page shows come
// out. It touches no page, so that the specs run it by node.
"use strict";

const numbers = (() => {
    // Kinds of time. An instant in which nothing runs counts for the first of these that is waited for, so that the
    // shares make 100 %: who joins tasks that wait for PostgreSQL waits for PostgreSQL.
    const KINDS = ["postgres", "redis", "pool", "sleep", "wait"];
    // What an event is by its category. `loop`: only its args.wait is waited; `call`: a statement or command.
    const CATEGORIES = new Map(Object.entries({
        postgres: { kind: "postgres", call: true }, shared: { kind: "postgres", call: true },
        pipeline: { kind: "postgres", call: true }, rows: { kind: "postgres", call: true, loop: true },
        copy: { kind: "postgres", call: true, loop: true }, piped: { call: true, within: true, colour: "postgres" },
        redis: { kind: "redis", call: true }, pool: { kind: "pool" }, sleep: { kind: "sleep" }, wait: { kind: "wait" },
        connect: { colour: "pool" }, transaction: {},
    }));
    const LONGEST = 20000;  // events of the timeline
    const OFTEN = 20;       // calls of one statement from one place by one task that are worth a sentence
    const FEW_ROWS = 10;    // rows a call, at most: who fetches or changes more works in batches
    // These are not told then: what they belong to is.
    const CONTROL = {
        postgres: /^\s*(?:begin|start|commit|end|rollback|savepoint|release)\b/i, redis: /^(?:pipeline|transaction)$/,
    };

    // SQL without its values: `id = 1` and `id = 2` are one statement.
    const shape = sql => sql.replace(/'(?:[^']|'')*'|(?<![\w$.])\d+(?:\.\d+)?/g, "?");

    const number = v => typeof v === "number" && isFinite(v) ? v : 0;
    const string = v => typeof v === "string" ? v : "";
    const object = v => v !== null && typeof v === "object" ? v : {};
    const sum = (list, value) => list.reduce((n, item) => n + value(item), 0);

    function entry(map, key, make) {
        let found = map.get(key);
        if (found === undefined) map.set(key, found = make(key));
        return found;
    }

    function parse(text, from, to) {
        while (to > from && (text.charCodeAt(to - 1) <= 32 || text.charCodeAt(to - 1) === 44)) to--; // blanks, comma
        while (from < to && text.charCodeAt(from) <= 32) from++;
        return from < to ? JSON.parse(text.slice(from, to)) : undefined;
    }

    // Calls fn(event, from, to) for each line that is an event, and says how the text ends.
    function lines(text, fn) {
        const seen = { events: 0, bad: 0, cut: false, ended: false };
        for (let from = 0, to; from < text.length; from = to + 1) {
            to = text.indexOf("\n", from);
            const whole = to >= 0;
            if (!whole) to = text.length;
            const short = to - from < 4 ? text.slice(from, to).trim() : undefined;
            if (short === "]") seen.ended = true;
            if (short === "" || short === "[" || short === "]") continue;
            let event;
            try {
                event = parse(text, from, to);
            } catch (_) {
                if (whole) seen.bad++;
                else seen.cut = true;
                continue;
            }
            if (event === undefined) continue;
            if (event === null || typeof event !== "object") seen.bad++;
            else {
                seen.events++;
                fn(event, from, to);
            }
        }
        return seen;
    }

    // ---- reading: columns of numbers, for hundreds of thousands of events ----

    function collect(text) {
        const t = {
            start: [], dur: [], wait: [], category: [], lane: [], from: [], to: [], // the spans
            marks: [], lanes: new Map(), calls: new Map(), errors: new Map(), failed: 0, exact: [],
            run: {}, totals: undefined, end: 0,
        };
        const open = new Map(), shapes = new Map();

        const lane = event => entry(t.lanes, event.pid + "/" + event.tid, () => ({
            pid: number(event.pid), tid: number(event.tid), name: "", index: t.lanes.size,
        }));

        // A row of the table: the calls of one statement, without its values, from one place.
        function row(category, sql, place) {
            const key = category === "redis" || category === "pipeline" ? sql : entry(shapes, sql, shape);
            return entry(t.calls, category + "\0" + key + "\0" + place, () => ({
                category, kind: CATEGORIES.get(category).kind || "postgres", sql, place, texts: new Set(),
                calls: 0, total: 0, max: 0, rows: 0, counted: false, errors: 0, durations: [], tasks: new Map(),
            }));
        }

        function call(event, args, taken) {
            const r = row(event.cat, string(args.sql) || string(event.name), string(args.place));
            if (r.texts.size < 1000) r.texts.add(args.sql);
            r.calls++;
            r.total += taken;
            if (taken > r.max) r.max = taken;
            r.durations.push(taken);
            const rows = number(args.rows);
            if (args.rows !== undefined) r.counted = true;
            r.rows += rows;
            if (args.kind !== undefined) r.errors++;
            const task = entry(r.tasks, args.task, () => ({ calls: 0, total: 0, rows: 0 }));
            task.calls++;
            task.total += taken;
            task.rows += rows;
        }

        function span(event, args, dur, from, to) {
            const ts = number(event.ts), category = CATEGORIES.get(event.cat) || {};
            const wait = category.loop ? Math.min(number(args.wait), dur) : dur;
            if (category.call) call(event, args, wait);
            t.start.push(ts);
            t.dur.push(dur);
            t.wait.push(wait);
            t.category.push(category);
            t.lane.push(lane(event).index);
            t.from.push(from);
            t.to.push(to);
            if (ts + dur > t.end) t.end = ts + dur;
        }

        function failure(event, args, ts, from, to) {
            t.failed++;
            const name = string(event.name), place = string(args.place), sql = string(args.sql);
            entry(t.errors, [args.kind, name, place, entry(shapes, sql, shape)].join("\0"), () => ({
                name, kind: string(args.kind), place, sql, calls: 0, first: ts,
            })).calls++;
            t.marks.push({ ts, lane: lane(event).index, from, to });
        }

        function metadata(event, args) {
            if (event.name === "thread_name") lane(event).name = string(args.name);
            else if (event.name === "dbrun_start") t.run = args;
            else if (event.name === "dbrun_totals") t.totals = args;
            else if (event.name === "dbrun_statement" && (CATEGORIES.get(args.cat) || {}).call) t.exact.push(args);
        }

        const seen = lines(text, (event, from, to) => {
            const args = object(event.args), ts = number(event.ts);
            if (event.ph === "X") span(event, args, Math.max(0, number(event.dur)), from, to);
            else if (event.ph === "b") open.set(event.cat + "\0" + event.id, { event, args, from, to });
            else if (event.ph === "e") {
                const key = event.cat + "\0" + event.id, begun = open.get(key);
                open.delete(key);
                if (!begun) return;
                const dur = Math.max(0, ts - number(begun.event.ts));
                span(begun.event, { ...begun.args, ...args }, dur, begun.from, begun.to);
            } else if (event.ph === "i" && event.cat === "error") failure(event, args, ts, from, to);
            else if (event.ph === "M") metadata(event, args);
            if (ts > t.end) t.end = ts;
        });
        for (const { event, args, from, to } of open.values()) // the program ended before them
            span(event, args, Math.max(0, t.end - number(event.ts)), from, to);
        for (const args of t.exact) {
            const r = row(args.cat, string(args.sql), string(args.place));
            r.exact = r.exact || { members: 0, calls: 0, total: 0, max: 0, rows: 0, errors: 0, p95: 0 };
            r.exact.members++;
            for (const key of ["calls", "rows", "errors"]) r.exact[key] += number(args[key]);
            r.exact.total += number(args.total_us);
            for (const key of ["max", "p95"]) r.exact[key] = Math.max(r.exact[key], number(args[key + "_us"]));
            if (number(args.rows) > 0) r.counted = true;
        }
        return { ...t, seen, unfinished: open.size };
    }

    // ---- the numbers ----

    // How long each kind is the first that is waited for; `loop`: how long nothing is but a loop or a COPY.
    function sweep(t) {
        const kinds = [...KINDS, "loop"];
        const edges = kinds.map(kind => {
            const starts = [], ends = [];
            for (let i = 0; i < t.start.length; i++) {
                const c = t.category[i];
                if ((c.loop ? "loop" : c.kind) !== kind) continue;
                starts.push(t.start[i]);
                ends.push(t.start[i] + t.dur[i]);
            }
            return { starts: Float64Array.from(starts).sort(), ends: Float64Array.from(ends).sort(), i: 0, j: 0 };
        });
        const shares = kinds.map(() => 0);
        for (let now = 0; ;) {
            let next = Infinity;
            for (const e of edges) {
                if (e.i < e.starts.length) next = Math.min(next, e.starts[e.i]);
                if (e.j < e.ends.length) next = Math.min(next, e.ends[e.j]);
            }
            if (next === Infinity) break;
            const first = edges.findIndex(e => e.i > e.j);
            if (first >= 0) shares[first] += next - now;
            now = next;
            for (const e of edges) {
                while (e.starts[e.i] === next) e.i++;
                while (e.ends[e.j] === next) e.j++;
            }
        }
        return shares;
    }

    // The time by kind. `sum`: of all tasks, more than the run when they wait side by side. `share`, of the run's: of a
    // trace without its end Lua's is what the waits leave. Its end tells how long the program ran. Of that a part lies
    // inside of the waits: to send, to read, and other tasks. When no two waits lie side by side they keep their time;
    // else they share what the program leaves.
    function times(t, end) {
        const rows = KINDS.map(kind => ({ kind, share: 0, sum: 0, calls: 0 }));
        let inLoops = 0;
        t.category.forEach((c, i) => {
            const row = rows[KINDS.indexOf(c.kind)];
            if (!row) return;
            row.calls++;
            row.sum += t.wait[i];
            if (c.loop) inLoops += t.wait[i];
        });
        const shares = sweep(t);
        rows.forEach((row, k) => { row.share = shares[k]; });
        rows[0].share += Math.min(inLoops, shares[KINDS.length]);
        const waited = () => sum(rows, row => row.share);
        const exact = t.totals && t.totals.time_us;
        if (!exact) return [...rows, { kind: "lua", share: Math.max(0, end - waited()), sum: 0, calls: 0 }];
        for (const row of rows) {
            const all = row.kind === "postgres" ? ["postgres", "shared", "pipeline", "rows", "copy"] : [row.kind];
            const real = sum(all, key => number(exact[key]));
            row.share = row.sum > 0 ? row.share * real / row.sum : real; // short events may have been left out
            row.sum = real;
        }
        const ran = Math.min(number(exact.lua), end);
        if (sum(rows, row => row.sum) > waited() * 1.001) {
            const most = Math.min(1, (end - ran) / waited() || 0);
            for (const row of rows) row.share *= most;
        }
        rows.push({ kind: "lua", share: Math.min(ran, Math.max(0, end - waited())), sum: ran, calls: 0 });
        return [...rows, { kind: "rest", share: Math.max(0, end - waited()), sum: 0, calls: 0 }];
    }

    // The nearest rank: of 20 calls the 19th.
    function p95(durations) {
        const sorted = Float64Array.from(durations).sort();
        return sorted.length ? sorted[Math.ceil(sorted.length * 0.95) - 1] : 0;
    }

    // The counts of the trace's end also hold what was left out; of loops they tell the script's time, too.
    function statements(t) {
        const short = t.totals && number(t.totals.left_out) > 0;
        const list = [];
        for (const { durations, exact, texts, ...s } of t.calls.values()) {
            s.written = s.calls;
            s.texts = Math.max(texts.size, exact ? exact.members : 0);
            s.p95 = p95(durations);
            if (exact && CATEGORIES.get(s.category).loop) Object.assign(s, { calls: exact.calls, rows: exact.rows });
            else if (exact) {
                const { calls, total, rows, errors, max, p95: most } = exact;
                Object.assign(s, { calls, total, rows, errors }, short ? { max, p95: Math.min(most, max) } : {});
            }
            s.mean = s.calls ? s.total / s.calls : 0;
            list.push(s);
        }
        return list.sort((a, b) => b.total - a.total);
    }

    // The same statement over and over: by one task, from one place, each time alone and for few rows.
    function repeated(list, end) {
        const found = [];
        for (const s of list) {
            if (!["postgres", "shared", "redis"].includes(s.category) || CONTROL[s.kind].test(s.sql)) continue;
            let most = { calls: 0 }, tasks = 0;
            for (const task of s.tasks.values()) {
                if (task.calls < OFTEN || task.rows > FEW_ROWS * task.calls) continue;
                tasks++;
                if (task.calls > most.calls) most = task;
            }
            if (tasks && (most.total >= end / 100 || most.calls >= 5 * OFTEN))
                found.push({ statement: s, calls: most.calls, total: most.total, tasks });
        }
        const told = new Set(); // the same on shared connections is told once
        return found.sort((a, b) => b.total - a.total).filter(({ statement: s }) => {
            const key = s.sql + "\0" + s.place, first = !told.has(key);
            told.add(key);
            return first;
        });
    }

    // The indexes of the longest, in the order of the file.
    function longest(durations, most) {
        const all = durations.map((_, i) => i);
        if (all.length <= most) return all;
        const least = Float64Array.from(durations).sort()[all.length - most];
        let equal = most - sum(durations, d => d > least ? 1 : 0);
        return all.filter(i => durations[i] > least || (durations[i] === least && equal-- > 0));
    }

    function compute(text, most = LONGEST) {
        const t = collect(text);
        const end = t.totals && number(t.totals.elapsed_us) || t.end;
        const list = statements(t);
        return {
            ...t.seen, unfinished: t.unfinished, end, run: t.run, totals: t.totals, spans: t.start.length,
            times: times(t, end), statements: list, repeated: repeated(list, end), failed: t.failed,
            lanes: [...t.lanes.values()],
            errors: [...t.errors.values()].sort((a, b) => b.calls - a.calls),
            events: longest(t.dur, most).map(i => ({
                ts: t.start[i], dur: t.dur[i], lane: t.lane[i], from: t.from[i], to: t.to[i],
                colour: t.category[i].kind || t.category[i].colour || "other",
            })),
            marks: t.marks.slice(0, most),
        };
    }

    return { compute, parse };
})();

if (typeof module === "object") module.exports = numbers;
