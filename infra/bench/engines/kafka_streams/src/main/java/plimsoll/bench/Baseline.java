package plimsoll.bench;

import java.nio.ByteBuffer;

/** An image's moving mean and variance, as infra/bench/engines/job.py keeps them. */
final class Baseline {
    private static final double WEIGHT = 0.01;

    private final double[] mean = new double[Batch.SIZE];
    private final double[] variance = new double[Batch.SIZE];
    private final double[] deviation = new double[Batch.SIZE];
    private double seen;

    static Baseline of(byte[] held, Batch batch) {
        Baseline baseline = new Baseline();
        if (held == null) baseline.begin(batch);
        else baseline.read(ByteBuffer.wrap(held));
        for (int at = 0; at < Batch.SIZE; at++) baseline.deviation[at] = Math.sqrt(baseline.variance[at]);
        return baseline;
    }

    private void read(ByteBuffer held) {
        for (int at = 0; at < Batch.SIZE; at++) mean[at] = held.getDouble();
        for (int at = 0; at < Batch.SIZE; at++) variance[at] = held.getDouble();
        seen = held.getDouble();
    }

    private void begin(Batch batch) {
        for (int at = 0; at < Batch.SIZE; at++) {
            double sum = 0, squares = 0;
            for (int row = 0; row < batch.rows; row++) sum += batch.columns[at][row];
            mean[at] = sum / batch.rows;
            for (int row = 0; row < batch.rows; row++) {
                double off = batch.columns[at][row] - mean[at];
                squares += off * off;
            }
            variance[at] = squares / batch.rows + 1.0;
        }
    }

    void deviations(Batch batch, int row, float[] out) {
        for (int at = 0; at < Batch.SIZE; at++)
            out[at] = (float) ((batch.columns[at][row] - mean[at]) / deviation[at]);
    }

    byte[] after(Batch batch) {
        int count = batch.rows;
        double weight = Math.max(1.0 - Math.pow(1.0 - WEIGHT, count), count / (seen + count + 1.0));
        double[] variances = new double[Batch.SIZE];
        ByteBuffer out = ByteBuffer.allocate(8 * (2 * Batch.SIZE + 1));
        for (int at = 0; at < Batch.SIZE; at++) {
            double sum = 0, squares = 0;
            for (int row = 0; row < count; row++) {
                double off = batch.columns[at][row] - mean[at];
                sum += off;
                squares += off * off;
            }
            out.putDouble(mean[at] + weight * sum / count);
            variances[at] = variance[at] * (1.0 - weight) + weight * squares / count;
        }
        for (double one : variances) out.putDouble(one);
        return out.putDouble(seen + count).array();
    }
}
