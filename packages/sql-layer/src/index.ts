/**
 * Event Flow on SQL.
 *
 * @stability unstable
 * @since 0.1.0
 */
export * as Inbox from "./Inbox.ts"
export * as Migrations from "./Migrations.ts"
export * as Outbox from "./Outbox.ts"
export * as OutboxAdmin from "./OutboxAdmin.ts"
export * as OutboxMetrics from "./OutboxMetrics.ts"
export * as OutboxRelay from "./OutboxRelay.ts"
export * as Tables from "./Tables.ts"
export * as Transactional from "./Transactional.ts"
