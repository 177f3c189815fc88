// BullMQ's side of the benchmark: `work SLOTS` is a worker, `produce` a producer that is driven over stdin, a JSON line
// for each wish and for each answer. The jobs are those of benchmarks/jobs.py, and report into the same files.
const fs = require('fs')
const path = require('path')
const readline = require('readline')
const { Queue, Worker } = require('bullmq')

const PAYLOAD = JSON.parse(process.env.BENCH_PAYLOAD)
const TIERS = process.env.BENCH_CASE === 'priority'
const address = new URL(process.env.BENCH_REDIS_URL)
const connection = { host: address.hostname, port: Number(address.port), maxRetriesPerRequest: null }
const BULK = 1000

const now = () => process.hrtime.bigint()
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const seconds = (since) => Number(now() - since) / 1e9

function work(slots) {
  const folder = process.env.BENCH_FOLDER
  const file = (kind) => path.join(folder, `${kind}-${process.pid}`)
  const counts = fs.openSync(file('count'), 'w')
  const bytes = Buffer.alloc(8)
  let done = 0
  let told = 0
  setInterval(() => {
    if (done === told) return
    told = done
    bytes.writeBigUInt64LE(BigInt(done))
    fs.writeSync(counts, bytes, 0, 8, 0)
  }, 20)

  const jobs = {
    noop: () => { done++ },
    sleep: async () => { await sleep(20); done++ },
    stamp: (data) => { fs.appendFileSync(file('samples'), `${now() - BigInt(data.at)}\n`) },
    hold: async (data) => {
      const mark = path.join(folder, `held-${data.id}`)
      if (fs.existsSync(mark)) {
        fs.appendFileSync(file('again'), `${now()}\n`)
        return
      }
      fs.writeFileSync(mark, '')
      await sleep(600000)
    },
  }
  new Worker('bench', async (job) => jobs[job.name](job.data), {
    connection,
    concurrency: slots,
    removeOnComplete: { count: 0 },
  })
}

function produce() {
  const queue = new Queue('bench', { connection })
  const options = (urgent, delay) => ({
    removeOnComplete: true,
    ...(TIERS ? { priority: urgent ? 1 : 10 } : {}),
    ...(delay ? { delay } : {}),
  })
  const bulk = (name, size, delay) =>
    queue.addBulk(Array.from({ length: size }, () => ({ name, data: PAYLOAD, opts: options(false, delay) })))

  const verbs = {
    ready: async () => { await queue.waitUntilReady(); return true },
    send: async (wish) => { await queue.add(wish.job, wish.payload, options(wish.urgent, wish.delay)); return true },
    stamp: async (wish) => {
      const at = now() + BigInt(wish.delay) * 1000000n
      await queue.add('stamp', { ...PAYLOAD, at: at.toString() }, options(wish.urgent, wish.delay))
      return true
    },
    fill: async (wish) => {
      const began = now()
      let sent = 0
      while (sent < wish.most && (sent < wish.least || seconds(began) < wish.seconds)) {
        const step = Math.min(BULK, wish.most - sent)
        await bulk(wish.job, step, wish.delay)
        sent += step
      }
      return sent
    },
    one: async (wish) => {
      for (let i = 0; i < 100; i++) await queue.add('noop', PAYLOAD, options(false, 0))
      const began = now()
      let sent = 0
      while (seconds(began) < wish.seconds) {
        await queue.add('noop', PAYLOAD, options(false, 0))
        sent++
      }
      return sent / seconds(began)
    },
    bulk: async (wish) => {
      await bulk('noop', BULK, 0)
      const began = now()
      let sent = 0
      while (seconds(began) < wish.seconds) {
        await bulk('noop', BULK, 0)
        sent += BULK
      }
      return sent / seconds(began)
    },
  }
  const lines = readline.createInterface({ input: process.stdin })
  let last = Promise.resolve()
  lines.on('line', (line) => {
    const wish = JSON.parse(line)
    last = last.then(async () => console.log(JSON.stringify(await verbs[wish.verb](wish))))
  })
  lines.on('close', () => process.exit(0))
}

if (process.argv[2] === 'work') work(Number(process.argv[3]))
else produce()
