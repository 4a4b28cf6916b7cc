--- The manual as a folder of HTML files (`make manual`): a page for each chapter, one for the functions, an index, and
--- a search that works from file://, because its index is a script.
local fs <const> = require "dbrun.fs"
local functions <const> = require "dbrun.manual.functions"
local html <const> = require "dbrun.manual.html"
local json <const> = require "dbrun.json"
local library <const> = require "dbrun.manual.library"
local page <const> = require "dbrun.manual.page"
local search <const> = require "dbrun.manual.search"

local M = {}

local CSS <const> = [[
:root { color-scheme: light dark; }
body { margin: 0; display: flex; font: 16px/1.5 system-ui, sans-serif; }
nav { flex: 0 0 12rem; padding: 1rem; position: sticky; top: 0; height: 100vh; overflow: auto;
      box-sizing: border-box; border-right: 1px solid #8884; }
nav ul { list-style: none; padding: 0; }
nav .here { font-weight: bold; }
nav input { width: 100%; box-sizing: border-box; }
main { flex: 1; min-width: 0; max-width: 56rem; padding: 1rem 2rem; }
pre { overflow: auto; padding: .7rem 1rem; background: #8881; border-left: 3px solid #48c; }
pre.output { border-left-color: #8888; }
code { font-family: ui-monospace, monospace; font-size: .92em; }
table { border-collapse: collapse; display: block; overflow: auto; }
td, th { border: 1px solid #8884; padding: .25rem .6rem; text-align: left; vertical-align: top; }
.right { text-align: right; }
.sentence { font-size: 1.1em; }
mark { font-weight: bold; }
@media (max-width: 45rem) { body { display: block; } nav { position: static; height: auto; } }
]]

---Text only: results are never parsed as HTML.
local SCRIPT <const> = [[
(function () {
  "use strict";
  var form = document.getElementById("search"), found = document.getElementById("found");
  var input = form.querySelector("input");
  function points(line, words) {
    var text = line[2].toLowerCase(), name = line[0].toLowerCase(), sum = line[3];
    for (var i = 0; i < words.length; i++) {
      var at = text.indexOf(words[i]);
      if (at < 0) return 0;
      sum += name === words[i] ? 100 : name.indexOf(words[i]) >= 0 ? 15 : 0;
    }
    return sum;
  }
  function show() {
    var words = input.value.toLowerCase().split(/\s+/).filter(Boolean), hits = [];
    if (words.length) LINES.forEach(function (line, at) {
      var p = points(line, words);
      if (p > 0) hits.push([p, at, line]);
    });
    hits.sort(function (a, b) { return b[0] - a[0] || a[1] - b[1]; });
    found.textContent = "";
    found.hidden = !words.length;
    hits.slice(0, 20).forEach(function (hit) {
      var item = document.createElement("li"), link = document.createElement("a");
      link.href = hit[2][1];
      link.textContent = hit[2][0];
      item.appendChild(link);
      item.appendChild(document.createTextNode(" " + hit[2][2].slice(0, 200)));
      found.appendChild(item);
    });
    if (words.length && !hits.length) found.textContent = "Nothing was found.";
  }
  form.addEventListener("submit", function (event) { event.preventDefault(); show(); });
  input.addEventListener("input", show);
}());
]]

local function anchor_of(entry)
    return html.anchor(entry.id)
end

local function functions_page(topics)
    local all <const> = library.functions()
    local parts <const> = { "<h1>Functions</h1>" }
    for _, entry in ipairs(all.entries) do
        parts[#parts + 1] = ('<h2 id="%s"><code>%s</code></h2>'):format(anchor_of(entry),
            html.escape(functions.signature(entry)))
        local blocks <const> = page.blocks(entry, all, library.example)
        for _, block in ipairs(blocks) do
            if block.kind == "heading" then block.level = 3 end
        end
        parts[#parts + 1] = html.blocks(blocks):gsub(' id="[^"]*"', "")
    end
    return html.page("Functions", table.concat(parts, "\n"), { name = "functions", topics = topics })
end

local function index_page(topics)
    local parts <const> = {
        "<h1>dbrun</h1>", "<p class=\"sentence\">Lua 5.4 with PostgreSQL and Redis.</p>", "<table>",
    }
    for _, name in ipairs(topics) do
        local chapter <const> = library.chapter(name)
        parts[#parts + 1] = ('<tr><td><a href="%s.html">%s</a></td><td>%s</td><td>%s</td></tr>'):format(
            html.escape(name), html.escape(name), html.escape(chapter.title), html.spans(chapter.sentence))
    end
    parts[#parts + 1] = "</table>"
    parts[#parts + 1] = '<p><a href="functions.html">All functions</a></p>'
    return html.page("Manual", table.concat(parts, "\n"), { name = "index", topics = topics })
end

local function search_script()
    local lines <const>, by_id <const> = {}, library.functions().by_id
    for i, line in ipairs(search.lines()) do
        local entry <const> = by_id[line.topic]
        local address <const> = entry and "functions.html#" .. anchor_of(entry) or line.topic .. ".html"
        lines[i] = json.encode { line.topic, address, line.text, line.weight }
    end
    local list <const> = table.concat(lines, ",\n"):gsub("<", "\\u003c")
    return "var LINES = [\n" .. list .. "];\n" .. SCRIPT
end

---Writes the manual.
---@param folder string made when it is missing
---@return integer pages
function M.write(folder)
    local topics <const> = library.topics()
    fs.mkdir_p(folder)
    local function write(name, text) fs.write(fs.join(folder, name), text, tonumber("644", 8)) end
    for _, name in ipairs(topics) do
        write(name .. ".html", html.chapter(library.chapter(name), { name = name, topics = topics }))
    end
    write("functions.html", functions_page(topics))
    write("index.html", index_page(topics))
    write("manual.css", CSS)
    write("search.js", search_script())
    return #topics + 2
end

return M
