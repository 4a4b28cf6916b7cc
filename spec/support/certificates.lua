--- Certificates for specs, made by openssl: an authority, and the certificates of servers and clients that it signs.
local fs = require "dbrun.fs"
local process = require "dbrun.process"

local M = {}

local function openssl(dir, ...)
    local result <const> = process.run { "openssl", cwd = dir, stderr = "stdout", ... }
    assert(result.ok, result.stdout)
end

--- Makes a certificate authority in `dir`/NAME.crt.
function M.authority(dir, name)
    openssl(dir, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-keyout", name .. ".key", "-out", name .. ".crt", "-subj", "/CN=" .. name)
end

--- A certificate NAME.crt with NAME.key, signed by the authority `by`, for the names in `names`
--- ("DNS:localhost,IP:127.0.0.1"). `expired`: it was valid only last year.
function M.sign(dir, by, name, names, expired)
    openssl(dir, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", name .. ".key",
        "-out", name .. ".csr", "-subj", "/CN=" .. name)
    fs.write(dir .. "/ca.cnf", table.concat({
        "[ca]", "default_ca = own", "[own]", "database = " .. dir .. "/index", "serial = " .. dir .. "/serial",
        "new_certs_dir = " .. dir, "default_md = sha256", "policy = any", "unique_subject = no",
        "x509_extensions = ext", "[any]", "commonName = supplied", "[ext]", "subjectAltName = " .. names, "",
    }, "\n"))
    fs.write(dir .. "/index", "")
    fs.write(dir .. "/serial", ("%02X\n"):format(math.random(16, 255)))
    local dates = { "-days", "2" }
    if expired then
        dates = { "-startdate", "20200101000000Z", "-enddate", "20210101000000Z" }
    end
    openssl(dir, "ca", "-batch", "-notext", "-config", dir .. "/ca.cnf", "-cert", by .. ".crt", "-keyfile",
        by .. ".key", "-in", name .. ".csr", "-out", name .. ".crt", table.unpack(dates))
end

return M
