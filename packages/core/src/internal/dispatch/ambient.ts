/**
 * What the fibers of a consumer keep of the context in which its layer was built.
 */
import * as Clock from "effect/Clock"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as ErrorReporter from "effect/ErrorReporter"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import * as Tracer from "effect/Tracer"
import * as Ids from "../../Ids.ts"

/** References to what a program runs on: where logs, spans and metrics go, time, chance, ids, configuration. */
const kept: ReadonlyArray<string> = [
  Clock.Clock,
  ConfigProvider.ConfigProvider,
  Console.Console,
  ErrorReporter.CurrentErrorReporters,
  Ids.Ids,
  Logger.CurrentLoggers,
  Logger.LogToStderr,
  Metric.FiberRuntimeMetrics,
  Metric.MetricRegistry,
  Random.Random,
  References.MinimumLogLevel,
  References.TracerEnabled,
  References.TracerTimingEnabled,
  References.UnhandledLogLevel,
  Scheduler.MaxOpsBeforeYield,
  Scheduler.PreventSchedulerYield,
  Scheduler.Scheduler,
  Tracer.MinimumTraceLevel,
  Tracer.Tracer
].map(({ key }) => key)

/**
 * A context that says nothing of whoever built a layer: neither a span nor log
 * annotations of start-up, nor a reference of the request in which the layer
 * happened to be built (F17).
 */
export const ambientOf = (context: Context.Context<never>): Context.Context<never> => {
  const map = context.mapUnsafe
  return Context.makeUnsafe(new Map(kept.filter((key) => map.has(key)).map((key) => [key, map.get(key)])))
}
