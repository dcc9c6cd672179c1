import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.utils.Utils;

/** Apache Kafka's own client, for tests of interoperability. */
public class Interop {
  static Base64.Encoder base64 = Base64.getEncoder();

  public static void main(String[] arguments) throws Exception {
    switch (arguments[0]) {
      // partitions <count> <key>...: the partition of each key
      case "partitions" -> {
        int count = Integer.parseInt(arguments[1]);
        for (int i = 2; i < arguments.length; i++) {
          byte[] key = arguments[i].getBytes(StandardCharsets.UTF_8);
          System.out.println(Utils.toPositive(Utils.murmur2(key)) % count);
        }
      }
      // produce <servers> <topic> <key> <body> <header>=<value>...
      case "produce" -> {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", arguments[1]);
        config.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        config.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(config)) {
          ProducerRecord<String, String> record = new ProducerRecord<>(arguments[2], arguments[3], arguments[4]);
          for (int i = 5; i < arguments.length; i++) {
            int split = arguments[i].indexOf('=');
            record.headers().add(arguments[i].substring(0, split),
              arguments[i].substring(split + 1).getBytes(StandardCharsets.UTF_8));
          }
          System.out.println(producer.send(record).get().partition());
        }
      }
      // consume <servers> <topic> <count>: lines of partition, key, headers, body; texts in base64
      case "consume" -> {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", arguments[1]);
        config.put("group.id", "java-" + UUID.randomUUID());
        config.put("auto.offset.reset", "earliest");
        config.put("key.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        config.put("value.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        int left = Integer.parseInt(arguments[3]);
        long end = System.currentTimeMillis() + 60_000;
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config)) {
          consumer.subscribe(List.of(arguments[2]));
          while (left > 0 && System.currentTimeMillis() < end) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
              StringBuilder headers = new StringBuilder();
              for (Header header : record.headers()) {
                headers.append(header.key()).append(':').append(base64.encodeToString(header.value())).append(';');
              }
              System.out.println(record.partition() + " " +
                (record.key() == null ? "-" : base64.encodeToString(record.key())) + " " + headers + " " +
                base64.encodeToString(record.value()));
              left--;
            }
          }
        }
      }
      // member <servers> <topic> <group> <protocol> [assignor]: lines of "assigned" and of "got" and the body, until it is killed
      case "member" -> {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", arguments[1]);
        config.put("group.id", arguments[3]);
        config.put("group.protocol", arguments[4]);
        config.put("auto.offset.reset", "earliest");
        config.put("auto.commit.interval.ms", "200");
        if (arguments.length > 5) config.put("partition.assignment.strategy", arguments[5]);
        // That of the new protocol is a setting of the broker
        if (arguments[4].equals("classic")) config.put("session.timeout.ms", "6000");
        config.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        config.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(config)) {
          consumer.subscribe(List.of(arguments[2]), new ConsumerRebalanceListener() {
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {}
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
              System.out.println("assigned " + consumer.assignment().size());
            }
          });
          while (true) {
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
              System.out.println("got " + record.value());
            }
          }
        }
      }
      default -> throw new IllegalArgumentException(arguments[0]);
    }
  }
}
