/**
 * The identity of the mediator, apart from what it does.
 */

/**
 * The mediator that runs a dispatch, in the `R` of what only it can run: the
 * handlers of events may send commands. Never constructed. Public as
 * `Mediator.Mediator`.
 */
export interface Mediator {
  readonly _: unique symbol
  readonly id: "@event-flow/core/Mediator"
}
