// The timeline: lanes of tasks, connections and Redis on a canvas as high as its frame, which scrolls.
"use strict";

function timeline({ frame, canvas, height, result, label, shown, onHover, onSelect }) {
    const ROW = 18, HEAD = 24, AXIS = 26, DEEPEST = 12;
    const COLOURS = "back raised text dim line bad on postgres redis pool sleep wait other".split(" ");
    const GROUPS = { 1: "Tasks", 2: "Connections", 3: "Redis" };
    const nameless = ({ pid, tid }) => pid === 2 && !tid ? "being opened" : String(tid);
    const context = canvas.getContext("2d");
    const end = Math.max(result.end, 1);
    const view = { from: 0, to: end };
    const colours = {};
    let width = 0, gutter = 0, selected = -1, queued = false, total = 0;

    // ---- where everything stands ----

    const lanes = result.lanes.map(lane => ({ ...lane, events: [], marks: [], rows: 1, y: 0 }));
    result.events.forEach((event, i) => lanes[event.lane].events.push({ ...event, i }));
    for (const mark of result.marks) lanes[mark.lane].marks.push(mark);
    const used = lanes.filter(lane => lane.events.length || lane.marks.length)
        .sort((a, b) => a.pid - b.pid || a.order - b.order || a.index - b.index);

    // What lies in or over another event of its lane takes the first row that is free.
    for (const lane of used) {
        const free = [];
        lane.events.sort((a, b) => a.ts - b.ts || b.dur - a.dur);
        for (const event of lane.events) {
            let row = free.findIndex(until => until <= event.ts);
            if (row < 0) row = Math.min(free.length, DEEPEST - 1);
            free[row] = Math.max(free[row] || 0, event.ts + event.dur);
            event.row = row;
        }
        lane.rows = Math.max(1, free.length);
        lane.lines = free.map((_, row) => lane.events.filter(event => event.row === row));
    }
    const heads = [];
    for (const lane of used) {
        if (!heads.length || heads[heads.length - 1].pid !== lane.pid) {
            heads.push({ pid: lane.pid, y: total, text: GROUPS[lane.pid] || "Process " + lane.pid });
            total += HEAD;
        }
        lane.y = total;
        total += lane.rows * ROW + 4;
    }
    const order = used.flatMap(lane => lane.events).sort((a, b) => a.ts - b.ts || b.dur - a.dur);

    // ---- drawing ----

    const x = ts => gutter + (ts - view.from) / (view.to - view.from) * (width - gutter);
    const time = px => view.from + (px - gutter) / (width - gutter) * (view.to - view.from);

    function clip(text, room) {
        if (room < 24) return "";
        if (context.measureText(text).width <= room) return text;
        let least = 0, most = text.length;
        while (least < most) {
            const middle = (least + most + 1) >> 1;
            if (context.measureText(text.slice(0, middle) + "…").width <= room) least = middle;
            else most = middle - 1;
        }
        return least ? text.slice(0, least) + "…" : "";
    }

    function drawAxis(bottom) {
        const raw = (view.to - view.from) / Math.max(2, (width - gutter) / 110);
        const unit = 10 ** Math.floor(Math.log10(raw));
        const step = [1, 2, 5, 10].find(n => n * unit >= raw) * unit;
        for (let ts = Math.ceil(view.from / step) * step; ts <= view.to; ts += step) {
            const at = Math.round(x(ts)) + .5;
            context.fillStyle = colours.line;
            context.fillRect(at, AXIS - 6, 1, bottom);
            context.fillStyle = colours.dim;
            const text = shown.tick(ts, step);
            if (at + 4 + context.measureText(text).width < width) context.fillText(text, at + 4, AXIS / 2);
        }
    }

    function drawLine(line, y) {
        let covered = -1;
        for (const event of line) {
            if (event.ts + event.dur < view.from) continue;
            if (event.ts > view.to) break;
            const left = Math.max(x(event.ts), gutter), right = Math.min(x(event.ts + event.dur), width);
            if (right <= covered && event.i !== selected) continue; // of many within a pixel one is drawn
            const wide = Math.max(right - left, 1);
            context.fillStyle = colours[event.colour];
            context.fillRect(left, y + 1, wide > 3 ? wide - .5 : wide, ROW - 2);
            covered = Math.ceil(left + wide - .5);
            if (wide > 40) {
                context.fillStyle = event.colour === "other" ? colours.text : colours.on;
                context.fillText(clip(label(event), wide - 8), left + 4, y + ROW / 2);
            }
            if (event.i === selected) {
                context.strokeStyle = colours.text;
                context.lineWidth = 2;
                context.strokeRect(left - 1, y, wide + 2, ROW);
            }
        }
    }

    function draw() {
        queued = false;
        const scale = window.devicePixelRatio || 1, high = frame.clientHeight;
        width = frame.clientWidth;
        gutter = Math.min(150, width / 4);
        canvas.width = width * scale;
        canvas.height = high * scale;
        canvas.style.width = width + "px";
        canvas.style.height = high + "px";
        height.style.marginTop = -high + "px";
        height.style.height = total + AXIS + "px";
        context.setTransform(scale, 0, 0, scale, 0, 0);
        context.font = "12px system-ui, sans-serif";
        context.textBaseline = "middle";
        context.direction = "ltr";
        context.fillStyle = colours.back;
        context.fillRect(0, 0, width, high);
        const top = AXIS - frame.scrollTop;
        drawAxis(high);
        context.save();
        context.beginPath();
        context.rect(0, AXIS, width, high);
        context.clip();
        for (const head of heads) {
            context.fillStyle = colours.raised;
            context.fillRect(0, top + head.y, width, HEAD - 2);
            context.fillStyle = colours.text;
            context.fillText(head.text, 8, top + head.y + HEAD / 2 - 1);
        }
        for (const lane of used) {
            const y = top + lane.y;
            if (y > high || y + lane.rows * ROW < AXIS) continue;
            lane.lines.forEach((line, row) => drawLine(line, y + row * ROW));
            context.fillStyle = colours.bad;
            for (const mark of lane.marks)
                if (mark.ts >= view.from && mark.ts <= view.to)
                    context.fillRect(x(mark.ts) - 1, y, 2, lane.rows * ROW);
            context.fillStyle = colours.back;
            context.fillRect(0, y, gutter - 1, lane.rows * ROW + 2);
            context.fillStyle = colours.dim;
            context.fillText(clip(shown.line(lane.name || nameless(lane)), gutter - 20), 16, y + ROW / 2);
        }
        context.restore();
    }

    function redraw() {
        if (!queued) requestAnimationFrame(draw);
        queued = true;
    }

    function recolour() {
        const style = getComputedStyle(document.documentElement);
        for (const name of COLOURS) colours[name] = style.getPropertyValue("--" + name).trim();
        redraw();
    }

    // ---- moving ----

    function show(from, to) {
        const span = Math.min(Math.max(to - from, 5), end * 1.02); // not closer than five microseconds
        view.from = Math.min(Math.max(from, -end * .01), end * 1.01 - span);
        view.to = view.from + span;
        redraw();
    }

    function zoom(factor, at = (view.from + view.to) / 2) {
        show(at - (at - view.from) * factor, at + (view.to - at) * factor);
    }

    function move(part) {
        const by = (view.to - view.from) * part;
        show(view.from + by, view.to + by);
    }

    function at(px, py) {
        const y = py - AXIS + frame.scrollTop, near = 2 * (view.to - view.from) / (width - gutter);
        const lane = py > AXIS && px >= gutter && used.find(l => y >= l.y && y < l.y + l.rows * ROW);
        const line = lane && lane.lines[Math.floor((y - lane.y) / ROW)];
        if (!line) return undefined;
        const ts = time(px);
        let best, distance = near;
        for (const event of line) {
            if (event.ts > ts + near) break;
            const off = Math.max(event.ts - ts, ts - event.ts - event.dur, 0);
            if (off <= distance) [best, distance] = [event, off];
        }
        return best;
    }

    function select(event, reveal) {
        selected = event ? event.i : -1;
        if (event && reveal) {
            const span = view.to - view.from, lane = lanes[event.lane], y = lane.y + event.row * ROW;
            if (event.ts < view.from || event.ts > view.to) show(event.ts - span * .3, event.ts + span * .7);
            if (y < frame.scrollTop) frame.scrollTop = y;
            else if (y + ROW + AXIS > frame.scrollTop + frame.clientHeight)
                frame.scrollTop = y + ROW + AXIS - frame.clientHeight;
        }
        onSelect(event);
        redraw();
    }

    function fit(event) {
        const room = Math.max(event.dur, 20) * .5;
        show(event.ts - room, event.ts + event.dur + room);
    }

    // The next event, or the one before; the first that is in view when none is selected.
    function step(by) {
        const i = order.findIndex(event => event.i === selected);
        const next = i >= 0 ? i + by : order.findIndex(event => event.ts + event.dur >= view.from);
        if (order[next]) select(order[next], true);
    }

    const KEYS = {
        ArrowLeft: () => move(-.2), ArrowRight: () => move(.2), a: () => move(-.2), d: () => move(.2),
        "+": () => zoom(.6), "=": () => zoom(.6), w: () => zoom(.6), "-": () => zoom(1 / .6), s: () => zoom(1 / .6),
        0: () => show(0, end), n: () => step(1), p: () => step(-1), Escape: () => select(undefined),
        Enter: () => selected >= 0 && fit(order.find(event => event.i === selected)),
    };
    frame.addEventListener("keydown", e => {
        if (e.ctrlKey || e.metaKey || e.altKey || !KEYS[e.key]) return;
        KEYS[e.key]();
        e.preventDefault();
    });

    const position = e => {
        const box = canvas.getBoundingClientRect();
        return [e.clientX - box.left, e.clientY - box.top];
    };
    let drag;
    canvas.addEventListener("pointerdown", e => {
        drag = { px: e.clientX, from: view.from, to: view.to, moved: false };
        canvas.setPointerCapture(e.pointerId);
    });
    canvas.addEventListener("pointermove", e => {
        if (!drag) {
            const event = at(...position(e));
            canvas.style.cursor = event ? "pointer" : "grab";
            return onHover(event, e.clientX, e.clientY);
        }
        if (Math.abs(e.clientX - drag.px) > 3) drag.moved = true;
        const by = (drag.px - e.clientX) / (width - gutter) * (drag.to - drag.from);
        if (drag.moved) show(drag.from + by, drag.to + by);
        onHover(undefined);
    });
    const drop = () => { drag = undefined; };
    canvas.addEventListener("pointerup", e => {
        if (drag && !drag.moved) select(at(...position(e)));
        drop();
    });
    canvas.addEventListener("pointercancel", drop);
    canvas.addEventListener("pointerleave", () => onHover(undefined));
    canvas.addEventListener("dblclick", e => {
        const event = at(...position(e));
        if (event) fit(event);
    });
    frame.addEventListener("wheel", e => {
        if (e.ctrlKey || e.metaKey) zoom(Math.exp(Math.max(-50, Math.min(50, e.deltaY)) * .01), time(position(e)[0]));
        else if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) move((e.deltaX || e.deltaY) / 1000);
        else return;
        e.preventDefault();
    }, { passive: false });
    frame.addEventListener("scroll", redraw);
    new ResizeObserver(redraw).observe(frame);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
    frame.style.height = Math.min(total + AXIS, 512) + 2 + "px";
    recolour();
    // Shows a hundredth of the run around an instant.
    const go = ts => {
        show(ts - end / 200, ts + end / 200);
        frame.scrollIntoView({ block: "center" });
        frame.focus({ preventScroll: true });
    };
    return { zoom, go, all: () => show(0, end) };
}
