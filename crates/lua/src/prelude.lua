-- What scripts see, laid out once per interpreter.
--
-- Scripts run with `env` as their table of globals. It and the libraries in it are read-only views:
-- empty tables that read from the real ones and refuse to be written, by assignment or by rawset,
-- setmetatable and the functions of `table`. Errors of native functions are userdata that only
-- `native.describe` can open; scripts get tables with `err`, or plain text from pcall.

local native = ...
local real = {}
local views = setmetatable({}, { __mode = "k" })

local error, type, tostring, rawget, rawset, next, select = error, type, tostring, rawget, rawset, next, select
local setmetatable, pcall, xpcall, pairs = setmetatable, pcall, xpcall, pairs
local READONLY = "Attempt to modify a readonly table"

local function refuse()
  error(READONLY, 2)
end

local function view(t, metatable)
  local v = setmetatable({}, { __index = t, __newindex = refuse, __metatable = metatable or false })
  views[v] = t
  return v
end

-- Guards a function that would write to its first argument behind the back of __newindex.
local function guard(f)
  return function(t, ...)
    if views[t] then
      error(READONLY, 0)
    end
    return f(t, ...)
  end
end

-- Errors.

local function after_pcall(ok, ...)
  if ok then
    return true, ...
  end
  local e = ...
  if type(e) == "userdata" then
    local message, fatal = native.describe(e)
    if fatal then
      error(e, 0)
    end
    return false, message
  end
  if type(e) == "table" and type(rawget(e, "err")) == "string" then
    return false, rawget(e, "err")
  end
  return false, e
end

local function opened(e)
  if type(e) ~= "userdata" then
    return e
  end
  local message, fatal = native.describe(e)
  return fatal and e or { err = message }
end

local function after_resume(ok, ...)
  if ok then
    return true, ...
  end
  local e = opened((...))
  if type(e) == "userdata" then
    error(e, 0)
  end
  return false, e
end

local failed_line, from_command

local function on_failure(e)
  failed_line, from_command = native.line(), false
  if type(e) == "userdata" then
    local message, _, is_command = native.describe(e)
    from_command = is_command
    return message
  end
  if type(e) == "table" then
    local message = rawget(e, "err")
    from_command = rawget(e, "ignore_error_stats_update") == true
    return type(message) == "string" and message or "ERR unknown error"
  end
  return "ERR " .. tostring(e)
end

-- The library `redis`.

local redis = {
  call = native.call,
  pcall = native.pcall,
  sha1hex = native.sha1hex,
  log = native.log,
  setresp = native.setresp,
  set_repl = native.set_repl,
  LOG_DEBUG = 0,
  LOG_VERBOSE = 1,
  LOG_NOTICE = 2,
  LOG_WARNING = 3,
  REPL_NONE = 0,
  REPL_AOF = 1,
  REPL_SLAVE = 2,
  REPL_REPLICA = 2,
  REPL_ALL = 3,
  REDIS_VERSION = "8.2.0",
  REDIS_VERSION_NUM = 0x00080200,
}

function redis.error_reply(...)
  local message = ...
  if select("#", ...) ~= 1 or type(message) ~= "string" then
    return { err = "ERR wrong number or type of arguments" }
  end
  if message:sub(1, 1) == "-" then
    return { err = message:sub(2) }
  end
  return { err = message:find(" ", 1, true) and message or "ERR " .. message }
end

function redis.status_reply(...)
  local message = ...
  if select("#", ...) ~= 1 or type(message) ~= "string" then
    return { err = "ERR wrong number or type of arguments" }
  end
  return { ok = message }
end

function redis.replicate_commands()
  return true
end

function redis.breakpoint()
  return false
end

function redis.debug()
end

-- The standard library, as far as it is safe.

local function library(source, names)
  local t = {}
  for name in names:gmatch("%S+") do
    t[name] = source[name]
  end
  return t
end

local string_names = "byte char dump find format gfind gmatch gsub len lower match rep reverse sub upper"
local table_names = "concat foreach foreachi getn insert maxn remove setn sort"
local math_names = "abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 max min mod modf pi pow rad random randomseed sin sinh sqrt tan tanh"
local strings = library(string, string_names)
local tables = library(table, table_names)
local coroutines = library(coroutine, "create resume running status wrap yield")

for _, name in ipairs({ "insert", "remove", "setn", "sort" }) do
  tables[name] = guard(tables[name])
end

local resume = coroutines.resume
function coroutines.resume(...)
  return after_resume(resume(...))
end

local loadstring = loadstring
local function load_text(text, name)
  if text:byte(1) == 27 then
    return nil, "attempt to load a compiled chunk"
  end
  return loadstring(text, name)
end

for name in ("_VERSION assert collectgarbage error gcinfo getmetatable ipairs rawequal select tonumber tostring type unpack"):gmatch("%S+") do
  real[name] = _G[name]
end
real.string = view(strings)
real.table = view(tables)
real.math = view(library(math, math_names))
real.os = view({ clock = os.clock })
real.coroutine = view(coroutines)
real.redis = view(redis)
real.server = real.redis
real.rawset = guard(rawset)
real.setmetatable = guard(setmetatable)

function real.rawget(t, key)
  return rawget(views[t] or t, key)
end

function real.next(t, key)
  return next(views[t] or t, key)
end

-- A view is walked by a copy: the iteration's state must not be the real table.
function real.pairs(t)
  local source = views[t]
  if not source then
    return pairs(t)
  end
  local copy = {}
  for key, value in next, source do
    copy[key] = value
  end
  return next, copy
end

function real.pcall(...)
  return after_pcall(pcall(...))
end

function real.xpcall(f, handler)
  return after_pcall(xpcall(f, function(e)
    local plain = opened(e)
    if type(plain) == "userdata" then
      return plain
    end
    return handler(plain)
  end))
end

function real.loadstring(text, name)
  return load_text(tostring(text), name or "@user_script")
end

function real.load(f, name)
  local pieces = {}
  local piece = f()
  while piece and piece ~= "" do
    pieces[#pieces + 1] = piece
    piece = f()
  end
  return load_text(table.concat(pieces), name or "@user_script")
end

local env = view(real, view({}))
real._G = env
setmetatable(real, {
  __index = function(_, name)
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
  end,
})

local of_strings = getmetatable("")
of_strings.__index = strings
of_strings.__metatable = view({ __index = real.string })

local function run(script, keys, argv)
  real.KEYS, real.ARGV = keys, argv
  local ok, value = xpcall(script, on_failure)
  if ok then
    return true, value
  end
  return false, value, failed_line, from_command
end

return env, run
