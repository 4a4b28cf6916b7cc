-- Which targets scripts leave alone unless they are named.
local errors = require "dbrun.error"
local target = require "dbrun.target"

describe("a protected target", function()
    local shop <const> = {
        role = "app", host = "db.prod.example", port = 5432, database = "shop", version = "15.1",
        name = "app@db.prod.example:5432/shop",
    }

    it("is known by its database, its host, or all of it", function()
        for _, patterns in ipairs { "shop", "sh?p", "*.prod.example", "app@*", "x, shop", "*/shop", "db.prod.*" } do
            assert.is_string(target.protected_by(shop, patterns), patterns)
        end
        for _, patterns in ipairs { "", "sho", "prod", "dbxprod.example", "shop2", "SHOP", "[a-z]*" } do
            assert.is_nil(target.protected_by(shop, patterns), patterns)
        end
        assert.is_nil(target.protected_by(shop, nil))
    end)

    it("is refused until its database is named", function()
        local ok, e = pcall(target.check, shop, "*.prod.*")
        assert.is_false(ok)
        assert.is_true(errors.is(e, "usage"))
        assert.matches("app@db.prod.example:5432/shop is protected", e.message, 1, true)
        assert.equal("--target shop, if you mean it", e.hint)
        target.check(shop, "*.prod.*", "shop")
        target.check(shop, "other")
        target.check(shop, nil)
    end)

    it("is not the one that was named: refused, protected or not", function()
        for _, patterns in ipairs { "*", "other" } do
            local ok, e = pcall(target.check, shop, patterns, "shop2")
            assert.is_false(ok)
            assert.matches("--target names 'shop2'", e.message, 1, true)
        end
    end)
end)
