/**
 * Event Flow on Apache Kafka.
 *
 * @stability unstable
 * @since 0.1.0
 */
export * as KafkaBroker from "./KafkaBroker.ts"
export * as KafkaConfig from "./KafkaConfig.ts"
export * as KafkaHealth from "./KafkaHealth.ts"
export * as KafkaMetrics from "./KafkaMetrics.ts"
export * as KafkaRetry from "./KafkaRetry.ts"
export * as KafkaSubscriber from "./KafkaSubscriber.ts"
export * as KafkaTopics from "./KafkaTopics.ts"
