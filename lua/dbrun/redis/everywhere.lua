--- Commands that go to all nodes of a cluster: FLUSHALL, SCRIPT LOAD, DBSIZE, PUBSUB NUMSUB.
local redirect <const> = require "dbrun.redis.redirect"
local task <const> = require "dbrun.task"

local M = {}

---How a command ended on one node.
---@class dbrun.redis.Answer
---@field ok boolean
---@field reply any the reply, or the error

--- Each gets the list of the replies and their number, and returns the combined reply.
local JOIN <const> = {}

function JOIN.all_succeeded(replies)
    return replies[1]
end

function JOIN.join(replies, n)
    local list <const> = {}
    for i = 1, n do
        local reply <const> = replies[i]
        if type(reply) ~= "table" then
            return replies[1] -- a command without a reply policy, whose replies are not lists
        end
        table.move(reply, 1, reply.n or #reply, #list + 1, list)
    end
    return list
end

function JOIN.union(replies, n)
    local list <const>, seen <const> = {}, {}
    for i = 1, n do
        for _, value in ipairs(replies[i]) do
            if not seen[value] then
                seen[value], list[#list + 1] = true, value
            end
        end
    end
    return list
end

--- Combines numbers by `combine`; in tables, each number. (A client that keeps the types of replies gets names among
--- them.)
local function fold(combine)
    return function(replies, n)
        local result = replies[1]
        for i = 2, n do
            if type(result) ~= "table" then
                result = combine(result, replies[i])
            else
                for name, value in pairs(replies[i]) do
                    local known <const> = result[name]
                    result[name] = known and type(value) == "number" and combine(known, value) or known or value
                end
            end
        end
        return result
    end
end

JOIN.sum = fold(function(a, b) return a + b end)
JOIN.min = fold(math.min)
JOIN.max = fold(math.max)
JOIN["and"] = JOIN.min -- of zeros and ones
JOIN["or"] = JOIN.max

--- Any reply that is not nil.
function JOIN.any(replies, n)
    local from <const> = math.random(n)
    for i = from, from + n - 1 do
        local reply <const> = replies[(i - 1) % n + 1]
        if reply ~= nil then
            return reply
        end
    end
    return nil
end

--- The primary of a shard, found by one of its hash slots, even if the primary changes meanwhile.
local function on_primary(cluster, stop, slot, want, name, args)
    return redirect.attempt(cluster, slot, stop, function(client)
        return redirect.bounded(cluster, client, stop, want):call(name, table.unpack(args, 1, args.n))
    end)
end

local function is_known(topology, node)
    return topology.nodes[node.name] == node
end

--- A replica. If it is lost and the cluster does not list it any more, it does not have to answer: nil.
local function on_replica(cluster, stop, replica, name, args)
    local topology <const> = cluster.state.topology
    local pause = 0.02
    local last <const> = redirect.last_retry(stop, task.now())
    while true do
        local client <const> = redirect.bounded(cluster, topology:reader(replica), stop)
        local ok <const>, reply <const> = pcall(client.call, client, name, table.unpack(args, 1, args.n))
        if ok then
            return { ok = true, reply = reply }
        end
        local kind <const> = redirect.kind_of(reply, cluster.idempotent)
        if not is_known(topology, replica) then
            return nil
        elseif (kind ~= "lost" and kind ~= "again") or task.now() >= last - redirect.LEAST_LEFT then
            return { ok = false, reply = reply }
        end
        task.sleep(math.max(0, math.min(pause * (0.5 + math.random()), last - redirect.LEAST_LEFT - task.now())))
        pause = math.min(pause * 2, 0.25)
        redirect.refresh(topology, topology.AFTER_TROUBLE, last)
        if not is_known(topology, replica) then
            return nil
        end
    end
end

---Runs the command on all of them, even if it fails on some.
---@return dbrun.redis.Answer[]
local function ask(cluster, stop, replicas, name, ...)
    local args <const>, fns <const> = table.pack(...), {}
    local want <const> = not replicas and cluster.want -- commands that go to replicas too are not replicated
    for _, shard in ipairs(cluster.state.topology.shards) do
        fns[#fns + 1] = function()
            local ok <const>, reply <const> = pcall(on_primary, cluster, stop, shard.slot, want, name, args)
            return { ok = ok, reply = reply }
        end
        for _, replica in ipairs(replicas and shard.replicas or {}) do
            fns[#fns + 1] = function()
                return on_replica(cluster, stop, replica, name, args) or { gone = true }
            end
        end
    end
    local answers <const> = {}
    for _, answer in ipairs(task.all(fns)) do
        answers[#answers + 1] = not answer.gone and answer or nil
    end
    return answers
end

--- SCRIPT KILL: on nodes without a running script it fails with NOTBUSY, so other errors are preferred.
local function one_of(answers)
    local failure
    for _, answer in ipairs(answers) do
        if answer.ok then
            return answer.reply
        elseif not failure or failure.code == "NOTBUSY" then
            failure = answer.reply
        end
    end
    error(failure, 0)
end

---Runs a command on all primaries (with `spec.replicas` also on all replicas). Raises the first error, except for a
---command that has to succeed on one node only.
---@param cluster dbrun.redis.Cluster
---@param stop number task.now() at the end of the call
---@param spec dbrun.redis.KeySpec
---@param name string
---@return any
function M.run(cluster, stop, spec, name, ...)
    redirect.look_around(cluster.state.topology, stop)
    local answers <const> = ask(cluster, stop, spec.replicas, name, ...)
    if spec.everywhere == "one_succeeded" then
        return one_of(answers)
    end
    local replies <const> = {}
    for i, answer in ipairs(answers) do
        replies[i] = answer.reply
    end
    for _, answer in ipairs(answers) do
        if not answer.ok then
            error(spec.reads and answer.reply or redirect.of_part(answer.reply, replies, #answers), 0)
        end
    end
    return (JOIN[spec.everywhere] or JOIN.join)(replies, #answers)
end

return M
