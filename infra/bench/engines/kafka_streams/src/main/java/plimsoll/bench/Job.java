package plimsoll.bench;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The job of infra/bench/engines/job.py in Kafka Streams: baselines in a store with a changelog,
 * every sample scored. BENCH_SCORER: "documented" is AWS's random cut forest, which learns as it
 * scores; "ours" walks the trees that the Python engines have.
 *
 * <p>The clock runs over the second half of the messages: the first one warms the JIT compiler.
 */
public final class Job {
    private static final int MESSAGES = Integer.parseInt(told("BENCH_MESSAGES"));
    private static final String RUN = told("BENCH_RUN");
    private static final Path DIRECTORY = Path.of(told("BENCH_DIRECTORY"));
    private static final CountDownLatch DONE = new CountDownLatch(1);
    private static final Meter METER = new Meter();

    private Job() {}

    static String told(String name) {
        String value = System.getenv(name);
        if (value == null) throw new IllegalStateException(name + " is not set");
        return value;
    }

    /** Clock and CPU of the whole process. Only the one stream thread writes to it. */
    private static final class Meter {
        private final OperatingSystemMXBean system =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        private long messages, samples, outputs, beganNs, beganCpuNs, samplesBefore;

        void add(int rows, boolean alerted) {
            messages++;
            samples += rows;
            if (alerted) outputs++;
            if (messages == MESSAGES / 2) {
                samplesBefore = samples;
                beganNs = System.nanoTime();
                beganCpuNs = system.getProcessCpuTime();
            }
            if (messages == MESSAGES) DONE.countDown();
        }

        void tell() {
            double wallS = (System.nanoTime() - beganNs) / 1e9;
            double cpuS = (system.getProcessCpuTime() - beganCpuNs) / 1e9;
            System.out.printf(
                "RESULT {\"messages\": %d, \"samples\": %d, \"timed_samples\": %d, \"outputs\": %d, "
                    + "\"wall_s\": %.6f, \"cpu_s\": %.6f}%n",
                messages, samples, samples - samplesBefore, outputs, wallS, cpuS);
        }
    }

    private static final class Judge implements Processor<String, byte[], String, String> {
        private final Batch batch = new Batch();
        private final Scorer scorer = Scorer.named(told("BENCH_SCORER"), DIRECTORY);
        private final float[] row = new float[Batch.SIZE];
        private ProcessorContext<String, String> context;
        private KeyValueStore<String, byte[]> baselines;

        @Override
        public void init(ProcessorContext<String, String> given) {
            context = given;
            baselines = given.getStateStore("baselines");
        }

        @Override
        public void process(Record<String, byte[]> message) {
            batch.read(message.value());
            Baseline before = Baseline.of(baselines.get(batch.image), batch);
            StringBuilder at = new StringBuilder(), scores = new StringBuilder();
            for (int i = 0; i < batch.rows; i++) {
                before.deviations(batch, i, row);
                double score = scorer.score(row);
                if (scorer.odd(score)) {
                    at.append(at.isEmpty() ? "" : ",").append(i);
                    scores.append(scores.isEmpty() ? "" : ",").append(score);
                }
            }
            baselines.put(batch.image, before.after(batch));
            if (!at.isEmpty()) {
                String body = "{\"image\":\"" + batch.image + "\",\"at\":[" + at + "],\"score\":[" + scores + "]}";
                context.forward(message.withKey(batch.image).withValue(body));
            }
            METER.add(batch.rows, !at.isEmpty());
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        Properties told = new Properties();
        told.put(StreamsConfig.APPLICATION_ID_CONFIG, RUN);
        told.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, told("BENCH_BOOTSTRAP"));
        told.put(StreamsConfig.STATE_DIR_CONFIG, DIRECTORY.resolve(RUN).toString());
        told.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 500);
        told.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        told.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 20);
        Topology topology = new Topology();
        topology.addSource("telemetry", Serdes.String().deserializer(), Serdes.ByteArray().deserializer(), told("BENCH_TOPIC"))
            .addProcessor("judge", Judge::new, "telemetry")
            .addStateStore(
                Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore("baselines"), Serdes.String(), Serdes.ByteArray())
                    .withCachingEnabled(),
                "judge")
            .addSink("alerts", RUN + "-alerts", Serdes.String().serializer(), Serdes.String().serializer(), "judge");
        KafkaStreams streams = new KafkaStreams(topology, told);
        streams.start();
        DONE.await();
        streams.close(); // commits and flushes
        METER.tell();
        System.exit(0);
    }
}
