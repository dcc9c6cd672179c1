/** The parts of the library that are simulated, each with its oracle: a seed gives what it breaks. */
import { run as closing } from "./closing.ts"
import { run as consumer } from "./consumer.ts"
import { run as mediator } from "./mediator.ts"
import { run as memoryBroker } from "./memoryBroker.ts"
import { run as tracker } from "./tracker.ts"

export const parts = { closing, consumer, mediator, memoryBroker, tracker } as const
export type Part = keyof typeof parts
