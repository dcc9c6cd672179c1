/**
 * What a group knows of the topics that it consumes: which topic it was, since a
 * topic that is deleted and created again keeps nothing but its name, and with how
 * many partitions the group began, since those that are added later have nothing
 * that the group could have skipped.
 *
 * It travels with each commit as its metadata, so that it outlasts restarts and
 * reaches the other members, and is remembered by a subscription, since the broker
 * forgets the commits of a topic that is deleted.
 */

export interface TopicHistory {
  readonly topicId: string
  /** Partitions from this number on were added after the group had begun. */
  readonly began: number
}

/** The histories of the topics of a subscription. */
export type TopicHistories = Map<string, TopicHistory>

/** A history as the metadata of a commit. Topics have other ids in another cluster, to which commits may be copied. */
export const encode = ({ began, topicId }: TopicHistory, clusterId: string | null): string =>
  `event-flow:${began}:${topicId}:${clusterId ?? ""}`

/** The history in the metadata of a commit; undefined where another program or another cluster wrote it. */
export const decode = (metadata: string | null, clusterId: string | null): TopicHistory | undefined => {
  const [, began, topicId, cluster] = /^event-flow:(\d+):([^:]+):(.*)$/s.exec(metadata ?? "") ?? []
  return topicId === undefined || cluster !== (clusterId ?? "") ? undefined : { topicId, began: Number(began) }
}

/**
 * What is known of a topic, from a subscription's own memory and from what members
 * of the group have committed. A topic that was created anew has only partitions
 * that were added since.
 */
export const merge = (
  topic: { readonly id: string; readonly partitionsCount: number },
  known: ReadonlyArray<TopicHistory>
): TopicHistory => ({
  topicId: topic.id,
  began: known.reduce(
    (least, { began, topicId }) => topicId === topic.id ? Math.min(least, began) : 0,
    topic.partitionsCount
  )
})
