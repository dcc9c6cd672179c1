/**
 * What tests of event flows need, for any test framework.
 */
export * as BrokerSuite from "./BrokerSuite.ts"
export * as Expect from "./Expect.ts"
export * as FailingBroker from "./FailingBroker.ts"
export * as Flow from "./Flow.ts"
export * as RecordingBroker from "./RecordingBroker.ts"
export * as Tracker from "./Tracker.ts"
