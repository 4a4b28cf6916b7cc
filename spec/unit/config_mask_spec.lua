-- The values that `dbrun config` shows, and those that it hides.
local shown <const> = require "dbrun.config.keys".shown

describe("dbrun config masks", function()
    it("values whose key names a secret", function()
        for _, key in ipairs {
            "MY_PASSPHRASE", "JWT", "SUPABASE_JWT_KID", "AUTH", "BASIC_AUTH", "HTTPAUTH", "AUTH_HEADER", "SALT",
            "SLACK_WEBHOOK", "WEBHOOK_URL", "SESSION_COOKIE", "SENTRY_DSN", "DSN", "apiKey", "api-key", "KEY",
            "SIGNING_CERT", "DB_PASS", "AUTHORIZATION", "MYSQL_PWD",
        } do
            assert.equal("***", shown(key, "x"), key)
        end
        for _, key in ipairs { "AUTHOR", "AUTHORITY", "MONKEY", "KEYBOARD", "KEYNOTE", "COMPASS_LIMIT", "PLAIN" } do
            assert.equal("x", shown(key, "x"), key)
        end
    end)

    it("values that look like secrets", function()
        for _, value in ipairs {
            "aB3dE5gH7jK9mN1pQ3sT", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b", "Bearer aB3dE5gH7jK9mN1pQ3sT",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
            "aGVsbG8gd29ybGQ/aGVsbG8gd29ybGQ+Zm9vYmFyMTIzNA==", "Server=db;User=app;Pwd=x1",
            "a, aB3dE5gH7jK9mN1pQ3sT",
            '{"private_key": "abc"}', "-----BEGIN EC KEY-----", "host=db password=x",
            [[{\"password\":\"x\"}]], "<password>x</password>", "mysql --password x1 -h db", "password%3Dx1",
            "curl -u ann:x1 https://h.example/", "Basic dXNlcjpwYXNz", "Bearer x1",
            "jdbc:oracle:thin:ann/x1@db:1521:x",
            -- a key of Amazon, with slashes, and its ID
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "AKIAIOSFODNN7EXAMPLE", "qzxkvbnmwrtplkjhgfds",
            "hJ7$kP2!mQ9@wR4#tY6&", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "a3f5c9d2e8b1f4a7c6d0e9b8",
        } do
            assert.equal("***", shown("PLAIN", value), value)
        end
    end)

    it("generated secrets of any alphabet", function()
        local seed = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time()
        math.randomseed(seed)
        local letters, digits = "abcdefghijklmnopqrstuvwxyz", "0123456789"
        for _, alphabet in ipairs { digits .. "abcdef", letters, letters .. digits,
            letters .. letters:upper() .. digits, letters .. letters:upper() .. digits .. "+/" } do
            for _, length in ipairs { 32, 64 } do
                local missed = 0
                for _ = 1, 300 do
                    local chars = {}
                    for i = 1, length do
                        local n = math.random(#alphabet)
                        chars[i] = alphabet:sub(n, n)
                    end
                    missed = missed + (shown("PLAIN", table.concat(chars)) == "***" and 0 or 1)
                end
                -- One in 500 of these looks like words; every fifth hexadecimal one of 32 digits was shown in the past.
                assert.truthy(missed <= 9, ("%d of 300 from %s, length %d, seed %d"):format(missed, alphabet,
                    length, seed))
            end
        end
    end)

    it("the user of an address without a scheme", function()
        for value, masked in pairs {
            ["ann:x1@db.example:5432/shop"] = "***@db.example:5432/shop",
            ["app:x1@tcp(127.0.0.1:3306)/shop"] = "***@tcp(127.0.0.1:3306)/shop",
            ["//ann:x1@db/shop"] = "//***@db/shop", ["scott/x1@//db.example/x"] = "***@//db.example/x",
            ["postgres://ann:my x1@db/shop"] = "postgres://***@db/shop",
        } do
            assert.equal(masked, shown("PLAIN", value))
            assert.equal(masked, shown("POSTGRES_HOST", value))
        end
    end)

    it("no path to a secret", function()
        assert.equal("/run/secrets/db", shown("DB_PASSWORD_FILE", "/run/secrets/db"))
        assert.equal("../tls/server.key", shown("TLS_KEY_PATH", "../tls/server.key"))
        assert.equal("***", shown("DB_PASSWORD_FILE", "x1"))
        assert.equal("***", shown("DB_PASSWORD", "/run/secrets/db"))
    end)

    it("the secret parts of a URL", function()
        for value, masked in pairs {
            ["https://u:p@h.example/v1"] = "https://***@h.example/v1",
            ["https://token@h.example/v1"] = "https://***@h.example/v1",
            ["https://h.example/v1?sig=abc&page=2"] = "https://h.example/v1?sig=***&page=2",
            ["https://h.example/a/XXa8Gh72kLq09ZbVtR4mNpQw"] = "https://h.example/a/***",
            ["jdbc:postgresql://u:p@h/x"] = "jdbc:postgresql://***@h/x",
            ["see https://u:p@h.example/v1"] = "see https://***@h.example/v1",
            ["postgres://u:p/@ss@h1,h2/x?password=y"] = "postgres://***@h1,h2/x?password=***",
        } do
            assert.equal(masked, shown("PLAIN", value))
        end
    end)

    it("nothing else", function()
        for _, value in ipairs {
            "https://api.example.com/v1/things?page=2", "/usr/share/postgresql/15/extension/contrib",
            "scripts/migrations/production", "db-primary.cluster-c1abc.eu-west-1.rds.amazonaws.com",
            "kafka-1.internal.example.com:9092,kafka-2.internal.example.com:9092", "someone@mail.example.com",
            "Europe/Berlin is the time zone of reports", "alpha,beta,gamma,delta", "abc123", ("0"):rep(40),
            "2026-01-01T00:00:00+00:00", "", "customer-notification-service",
            "MyApplicationConfigurationProvider",
            "http_request_duration_seconds_bucket", "Donaudampfschifffahrtsgesellschaft",
            "customer-notification-service.production.svc.cluster.local",
            "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
            [[C:\Program Files\Application\configuration.yaml]], "~/projects/dbrun-configuration-files",
            "scripts/migrations/20260101120000_create_customer_notifications.sql",
            "mailto:ann@mail.example.com",
            "registry.example.com/team/application-backend:1.2.3-alpine",
            "/usr/lib/jvm/java-17-openjdk-amd64/bin/java",
            "https://medium.com/@someone/an-article-about-ordinary-things",
            "https://cdn.example.com/npm/vue@3.2.1/vue.js",
            "https://api.example.com/v1/customer-notification-preferences", "utf8mb4_unicode_520_ci", "basic functions",
            "arn:aws:iam::123456789012:role/my-application-role",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
            "postgresql-client-15_15.20-0+deb12u1_amd64.deb",
            "-XX:+UseContainerSupport -XX:MaxRAMPercentage=75.0",
            "git@github.com:example/project.git", "Städteverbindungsverzeichnis",
            "日本語の長い名前のアプリケーションサーバー",
        } do
            assert.equal(value, shown("PLAIN", value))
        end
    end)
end)
