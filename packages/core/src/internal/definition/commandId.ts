/** The id of commands, apart from what makes them. */
export const TypeId = "~@event-flow/core/Command"
