package plimsoll.bench;

import com.amazon.randomcutforest.RandomCutForest;
import com.amazon.randomcutforest.config.Precision;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;

/** How odd one row of deviations is. */
interface Scorer {
    double score(float[] row);

    boolean odd(double score);

    static Scorer named(String name, Path directory) {
        return name.equals("ours") ? new Trees(directory.resolve("trees.bin")) : new RandomCuts();
    }

    /** 100 trees of 256 samples over all images, each row scored and then learned, on one thread. */
    final class RandomCuts implements Scorer {
        private final RandomCutForest forest = RandomCutForest.builder()
            .dimensions(Batch.SIZE).numberOfTrees(100).sampleSize(256).randomSeed(7)
            .precision(Precision.FLOAT_32).parallelExecutionEnabled(false).compact(true).build();

        @Override
        public double score(float[] row) {
            double score = forest.getAnomalyScore(row);
            forest.update(row);
            return score;
        }

        @Override
        public boolean odd(double score) {
            return score > 1.5;
        }
    }

    /** The forest of the Python engines: complete trees in heap order, walked row by row. */
    final class Trees implements Scorer {
        private final int trees, depth;
        private final short[] feature;
        private final float[] threshold;
        private final double[] leaf;
        private final double usual;

        Trees(Path file) {
            ByteBuffer in;
            try {
                in = ByteBuffer.wrap(Files.readAllBytes(file));
            } catch (IOException problem) {
                throw new UncheckedIOException(problem);
            }
            trees = in.getInt();
            depth = in.getInt();
            usual = in.getDouble();
            int inner = trees * ((1 << depth) - 1);
            feature = new short[inner];
            threshold = new float[inner];
            leaf = new double[trees << depth];
            for (int at = 0; at < inner; at++) feature[at] = in.getShort();
            for (int at = 0; at < inner; at++) threshold[at] = in.getFloat();
            for (int at = 0; at < leaf.length; at++) leaf[at] = in.getDouble();
        }

        @Override
        public double score(float[] row) {
            int inner = (1 << depth) - 1;
            double length = 0;
            for (int tree = 0; tree < trees; tree++) {
                int first = tree * inner, node = 0;
                for (int level = 0; level < depth; level++)
                    node = 2 * node + (row[feature[first + node]] > threshold[first + node] ? 2 : 1);
                length += leaf[(tree << depth) + node - inner];
            }
            return -Math.pow(2.0, -length / (usual * trees));
        }

        @Override
        public boolean odd(double score) {
            return score < -0.6;
        }
    }
}
