/**
 * The identity of the mediator's service, apart from the service: handlers must
 * know its name, and the service knows commands.
 */

/** The mediator of a program, in the `R` of what sends commands. Never constructed. */
export interface Mediator {
  readonly _: unique symbol
  readonly id: "@event-flow/core/Mediator"
}
