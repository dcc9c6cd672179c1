/**
 * Deterministic simulation of whole systems of event flows.
 */
export * as Client from "./Client.ts"
export * as Fault from "./Fault.ts"
export * as Finding from "./Finding.ts"
export * as Inbox from "./Inbox.ts"
export * as Invariant from "./Invariant.ts"
export * as Node from "./Node.ts"
export * as Outbox from "./Outbox.ts"
export * as Recording from "./Recording.ts"
export * as Report from "./Report.ts"
export * as Scenario from "./Scenario.ts"
export * as Simulation from "./Simulation.ts"
export * as SimulationTest from "./SimulationTest.ts"
export * as Store from "./Store.ts"
export * as Transactional from "./Transactional.ts"
