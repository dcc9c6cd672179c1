/** The units of metrics, in the attribute from which Effect's exporters take them. */

/** Boundaries of OpenTelemetry's conventions for durations. */
export const inSeconds = {
  attributes: { unit: "s" },
  boundaries: [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
} as const

export const inMessages = { attributes: { unit: "{message}" }, incremental: true } as const
