-- wrk: every request is a charge of a run of its own, so that nothing is a repeat.
local thread = 0
function setup(t)
  t:set('id', thread)
  thread = thread + 1
end

local count = 0
local started = os.time()
local key = os.getenv('BENCH_VAULT_KEY')
local body = 'amount=100&currency=usd&source=tok_visa&description=An+order+of+the+usual+size&metadata[order]=0123456789'
local path = os.getenv('BENCH_PATH')

function request()
  count = count + 1
  return wrk.format('POST', path, {
    ['Authorization'] = 'Bearer ' .. key,
    ['Content-Type'] = 'application/x-www-form-urlencoded',
    ['Spendgate-Run-Id'] = string.format('bench-%d-%d-%d-%d', started, id, count, os.getenv('BENCH_SALT')),
  }, body)
end

local refused = 0
function response(status)
  if status ~= 200 then
    refused = refused + 1
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('RESULT %d %d %.1f %.1f %d\n', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
