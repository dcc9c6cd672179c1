/** Which member of a group gets which partitions; computed by the member that leads it. */
import type { GroupPartitionsAssigner } from "@platformatic/kafka"

/**
 * Each partition goes to the member with the fewest among those that subscribe
 * to its topic. (The client's own assigner gives out the leader's topics alone,
 * to everybody.)
 */
export const assignPartitions: GroupPartitionsAssigner = (_current, members, _topics, metadata) => {
  const loads = Array.from(members.values(), ({ memberId, topics }) => ({
    memberId,
    topics: new Set(topics ?? []),
    assignments: new Map<string, { topic: string; partitions: Array<number> }>(),
    count: 0
  })).sort((a, b) => a.memberId < b.memberId ? -1 : 1)
  for (const topic of [...metadata.topics.keys()].sort()) {
    const subscribed = loads.filter(({ topics }) => topics.has(topic))
    if (subscribed.length === 0) continue
    for (let partition = 0; partition < metadata.topics.get(topic)!.partitionsCount; partition++) {
      const member = subscribed.reduce((least, member) => member.count < least.count ? member : least)
      const assigned = member.assignments.get(topic)
      if (assigned === undefined) member.assignments.set(topic, { topic, partitions: [partition] })
      else assigned.partitions.push(partition)
      member.count++
    }
  }
  return loads.map(({ assignments, memberId }) => ({ memberId, assignments }))
}
