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
local setmetatable, pcall, xpcall, pairs, setfenv = setmetatable, pcall, xpcall, pairs, setfenv
local READONLY = "Attempt to modify a readonly table"

local function refuse()
  error(READONLY, 2)
end

local function view(t, metatable)
  local mt = { __index = t, __newindex = refuse, __metatable = metatable or false }
  local v = setmetatable({}, mt)
  views[v] = t
  return v, mt
end

-- Makes reading what is not there an error.
local function strict(t)
  return setmetatable(t, {
    __index = function(_, name)
      error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
    end,
  })
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
  local message, fatal, _, plain = native.describe(e)
  if fatal then
    return e
  end
  return plain and message or { err = message }
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
    local message, _, is_command, plain = native.describe(e)
    from_command = is_command
    return plain and "ERR " .. message or message
  end
  if type(e) == "table" then
    local message = rawget(e, "err")
    from_command = rawget(e, "ignore_error_stats_update") == true
    return type(message) == "string" and message or "ERR unknown error"
  end
  return "ERR " .. tostring(e)
end

-- The library `redis`, and the same as `server`, whose errors have the words of Valkey.

local redis = {
  call = native.redis.call,
  pcall = native.redis.pcall,
  acl_check_cmd = native.redis.acl_check_cmd,
  sha1hex = native.sha1hex,
  log = native.redis.log,
  setresp = native.redis.setresp,
  set_repl = native.redis.set_repl,
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

local function renamed(library)
  local server = {}
  for name, value in pairs(library) do
    server[name] = native.server[name] or value
  end
  return server
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

-- Lua's own matcher recurses for each of these; its stack is the thread's.
local BRANCHES_MAX = 1000

local function check_pattern(pattern)
  if type(pattern) == "string" and #pattern > BRANCHES_MAX then
    local _, n = string.gsub(pattern, "[%?%*%+%-]", "")
    if n > BRANCHES_MAX then
      error("pattern too complex", 3)
    end
  end
end

for name in ("match gmatch gfind gsub"):gmatch("%S+") do
  local f = strings[name]
  strings[name] = f and function(s, pattern, ...)
    check_pattern(pattern)
    return f(s, pattern, ...)
  end
end

local find = strings.find
function strings.find(s, pattern, init, plain)
  if not plain then
    check_pattern(pattern)
  end
  return find(s, pattern, init, plain)
end

-- Lua's own computes the number of results in an int, which may overflow. They and the arguments
-- must fit the stack of a C function.
local C_STACK = 8000
local unpack = unpack
function real.unpack(t, ...)
  if type(t) == "table" then
    local i, j = ...
    local n = (tonumber(j) or #t) - (tonumber(i) or 1) + 1
    if not (n + 1 + select("#", ...) <= C_STACK) then
      error("too many results to unpack", 2)
    end
  end
  return unpack(t, ...)
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

for name in ("_VERSION assert collectgarbage error gcinfo getmetatable ipairs rawequal select tonumber tostring type"):gmatch("%S+") do
  real[name] = _G[name]
end
real.string = view(strings)
real.table = view(tables)
real.math = view(library(math, math_names))
real.os = view({ clock = os.clock })
real.coroutine = view(coroutines)
real.redis = view(redis)
for name, t in pairs(native.libraries) do
  real[name] = view(t)
end
real.server = view(renamed(redis))
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

-- `lua-enable-deprecated-api`. What is behind the sandbox is neither shown nor changed.
if native.is_insecure then
  local getfenv, setfenv, hidden = getfenv, setfenv, getfenv(1)

  local function place(f)
    if f == nil then
      return 3
    elseif type(f) == "number" and f > 0 then
      return f + 2
    end
    return f
  end

  function real.getfenv(f)
    local found = getfenv(place(f))
    if found == hidden then
      return env
    end
    return (found)
  end

  function real.setfenv(f, t)
    f = place(f)
    if f == 0 or getfenv(f) == hidden then
      error("'setfenv' cannot change environment of given object", 2)
    end
    local changed = setfenv(f, t)
    return changed
  end

  real.newproxy = newproxy
end

strict(real)

local of_strings = getmetatable("")
of_strings.__index = strings
of_strings.__metatable = view({ __index = real.string })

-- Where the last run failed, and whether a command answered what it failed with. No handler runs when
-- memory is used up, so nothing may be left from an earlier failure.
local function failure()
  local line, command = failed_line, from_command
  failed_line, from_command = nil, nil
  return line, command
end

-- Functions: they have globals of their own, and see little of them while their library loads.

local at_run = {}
for name, value in pairs(real) do
  at_run[name] = value
end
local for_functions = {}
for name, value in pairs(redis) do
  for_functions[name] = value
end
for_functions.breakpoint, for_functions.debug, for_functions.replicate_commands = nil, nil, nil
local functions_env, functions_meta = view(strict(at_run), view({}))
at_run._G = functions_env
at_run.redis = view(for_functions)
at_run.server = view(renamed(for_functions))

local function in_functions(f, ...)
  if f then
    setfenv(f, functions_env)
  end
  return f, ...
end

function at_run.loadstring(text, name)
  return in_functions(real.loadstring(text, name or "@user_function"))
end

function at_run.load(f, name)
  return in_functions(real.load(f, name or "@user_function"))
end

local registered -- by the library that loads now
local LABELS = {
  ["no-writes"] = true,
  ["allow-oom"] = true,
  ["allow-stale"] = true,
  ["no-cluster"] = true,
  ["allow-cross-slot-keys"] = true,
}

-- Under which of its two names a library calls register_function: errors name that one.
local api = "redis"

local function fail(message)
  local named = message:gsub("redis%.register", api .. ".register")
  error({ err = "ERR " .. named }, 0)
end

local function is_text(value)
  return type(value) == "string" or type(value) == "number"
end

local function check_flags(flags)
  if type(flags) ~= "table" then
    fail("flags argument to redis.register_function must be a table representing function flags")
  end
  local i, checked = 1, {}
  while rawget(flags, i) ~= nil do
    if not LABELS[rawget(flags, i)] then
      fail("unknown flag given")
    end
    checked[i] = rawget(flags, i)
    i = i + 1
  end
  return checked
end

local function named_arguments(t)
  local f = {}
  for key, value in next, t do
    local name = is_text(key) and tostring(key):lower()
    if not name then
      fail("named argument key given to redis.register_function is not a string")
    elseif name == "function_name" or name == "description" then
      if not is_text(value) then
        fail(name .. " argument given to redis.register_function must be a string")
      end
      f[name] = tostring(value)
    elseif name == "callback" then
      if type(value) ~= "function" then
        fail("callback argument given to redis.register_function must be a function")
      end
      f.callback = value
    elseif name == "flags" then
      f.flags = check_flags(value)
    else
      fail("unknown argument given to redis.register_function")
    end
  end
  if not f.function_name then
    fail("redis.register_function must get a function name argument")
  elseif not f.callback then
    fail("redis.register_function must get a callback argument")
  end
  return f
end

local function arguments(...)
  local first, second = ...
  local n = select("#", ...)
  if n < 1 or n > 2 then
    fail("wrong number of arguments to redis.register_function")
  elseif n == 1 then
    if type(first) ~= "table" then
      fail("calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).")
    end
    return named_arguments(first)
  elseif not is_text(first) then
    fail("first argument to redis.register_function must be a string")
  elseif type(second) ~= "function" then
    fail("second argument to redis.register_function must be a function")
  end
  return { function_name = tostring(first), callback = second }
end

local function register_function(...)
  if not registered then
    fail("redis.register_function can only be called on FUNCTION LOAD command")
  end
  local f = arguments(...)
  if not f.function_name:find("^[%w_]+$") or f.function_name:find("%z") then
    fail("Library names can only contain letters, numbers, or underscores(_) and must be at least one character long")
  elseif registered[f.function_name] then
    fail("Function already exists in the library")
  end
  registered[f.function_name] = true
  registered[#registered + 1] = f
end

local function load_api(name)
  return view(strict({
    register_function = function(...)
      api = name
      return register_function(...)
    end,
    log = native[name].log,
    LOG_DEBUG = 0,
    LOG_VERBOSE = 1,
    LOG_NOTICE = 2,
    LOG_WARNING = 3,
    REDIS_VERSION = redis.REDIS_VERSION,
    REDIS_VERSION_NUM = redis.REDIS_VERSION_NUM,
  }))
end

local at_load = strict({ redis = (load_api("redis")), server = (load_api("server")) })

local function load_library(chunk)
  local all = {}
  registered, functions_meta.__index = all, at_load
  local ok, message = xpcall(chunk, on_failure)
  failure()
  registered, functions_meta.__index = nil, at_run
  if ok then
    return true, all
  end
  return false, message
end

return env, real, on_failure, failure, functions_env, load_library
