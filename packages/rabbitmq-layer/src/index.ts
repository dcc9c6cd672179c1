/**
 * Event Flow on RabbitMQ.
 *
 * @stability unstable
 * @since 0.1.0
 */
export * as RabbitBroker from "./RabbitBroker.ts"
export * as RabbitConfig from "./RabbitConfig.ts"
export * as RabbitHealth from "./RabbitHealth.ts"
export * as RabbitRetry from "./RabbitRetry.ts"
export * as RabbitSubscriber from "./RabbitSubscriber.ts"
export * as RabbitTopology from "./RabbitTopology.ts"
