-- The order of tables in a dump of a database with TimescaleDB, which must not depend on their chunks.
local dump_order = require "dbrun.migrate.show.dump_order"

describe("the order of a dump's tables", function()
    local function entry(name, kind, sql)
        return ("--\n-- Name: %s; Type: %s; Schema: public; Owner: -\n--\n\n%s\n\n\n"):format(name, kind, sql)
    end
    local SETTINGS <const> = "SET default_tablespace = '';\n\nSET default_table_access_method = heap;\n\n"
    local HEAD <const> = "SET a = 1;\n\n\n" .. SETTINGS
    local FOOT <const> = entry("x", "ACL", "GRANT SELECT ON TABLE public.a TO x;")

    local function table_of(name, columns)
        return entry(name, "TABLE", ("CREATE TABLE public.%s (\n    %s\n);"):format(name, columns or "i integer"))
    end

    local function check(expected, ...)
        assert.equal(HEAD .. table.concat(expected) .. FOOT, dump_order.by_name(HEAD .. table.concat { ... } .. FOOT))
    end

    it("is that of their names, with their comments", function()
        local comment <const> = entry("TABLE c", "COMMENT", "COMMENT ON TABLE public.c IS '\n--\n-- Name: z; Type: "
            .. "TABLE; Schema: public; Owner: -\n--\nCREATE TABLE public.z ();';")
        local a <const>, b <const>, c <const> = table_of "a", table_of "b", table_of "c" .. comment
        check({ a, b, c }, a, b, c)
        check({ a, b, c }, c, a, b)
        check({ a, b, c }, b, c, a)
    end)

    it("puts a table after those that its text names", function()
        local z <const> = table_of "z"
        local inherits <const> = entry("a", "TABLE", "CREATE TABLE public.a (\n)\nINHERITS (public.z);")
        check({ z, inherits }, z, inherits)
        local sequence <const> = entry("s", "SEQUENCE", "CREATE SEQUENCE public.s;")
        local default <const> = table_of("d", "i integer DEFAULT nextval('public.s'::regclass)")
        check({ inherits, sequence, default }, sequence, default, inherits)
        check({ inherits, sequence, default }, inherits, sequence, default)
        local text <const> = dump_order.by_name("SET a = 1;\n\n\n" .. sequence .. SETTINGS .. default .. inherits)
        assert.equal(HEAD .. inherits .. sequence .. default, text)
        local odd <const> = entry("y", "TABLE", 'CREATE TABLE public."y ""\n." (\n    i integer\n);')
        local view <const> = entry("b", "VIEW", 'CREATE VIEW public.b AS\n SELECT 1 FROM public."y ""\n.";')
        check({ odd, view, table_of "c" }, table_of "c", odd, view)
        check({ table_of("aa", "b public.ab"), table_of "abc" }, table_of "abc", table_of("aa", "b public.ab"))
    end)

    it("does not change when it is not sure that they can move", function()
        local a <const>, b <const> = table_of "a", table_of "b"
        for _, between in ipairs { entry("c", "CAST", "CREATE CAST (public.b AS text) WITH INOUT;"),
            "SET default_tablespace = slow;\n\n" .. table_of "c" .. "SET default_tablespace = fast;\n\n" } do
            check({ b, between, a }, b, between, a)
        end
        check({ table_of("b", "i public.a"), table_of("a", "i public.b") }, table_of("b", "i public.a"),
            table_of("a", "i public.b"))
        assert.equal("SELECT 1;\n", dump_order.by_name "SELECT 1;\n")
        assert.equal("", dump_order.by_name "")
    end)
end)
