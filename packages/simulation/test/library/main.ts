/**
 * Looks for a seed at which the library breaks a promise: `main.ts [seeds] [from] [parts...]`. The nightly job takes seeds
 * that nobody has run: `npm run simulate:library -- 100000 $RUN_NUMBER`.
 */
import { type Part, parts } from "./parts.ts"

const [seeds = "1000", from = "1", ...chosen] = process.argv.slice(2)
const names = chosen.length > 0 ? chosen as ReadonlyArray<Part> : Object.keys(parts) as ReadonlyArray<Part>

for (const name of names) {
  const started = performance.now()
  // The first is enough: the seeds behind it are soon run again
  let broken = 0
  for (let seed = Number(from); seed < Number(from) + Number(seeds) && broken < 1; seed++) {
    const what = parts[name](seed)
    if (what === undefined) continue
    broken++
    console.log(`${name}, seed ${seed}: ${what}`)
  }
  if (broken > 0) process.exitCode = 1
  console.log(`${name}: ${seeds} seeds from ${from}, ${broken} broken, ${Math.round(performance.now() - started)} ms`)
}
