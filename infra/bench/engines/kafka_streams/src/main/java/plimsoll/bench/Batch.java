package plimsoll.bench;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Arrays;

/** One message's image and samples, with the two ratios that follow; read anew for each message. */
final class Batch {
    static final int SIZE = 15;
    private static final int RECEIVED = 6, SENT = 7, SENT_PACKETS = 9;

    final double[][] columns = new double[SIZE][64];
    String image;
    int rows;

    private final JsonFactory json = new JsonFactory();

    void read(byte[] message) {
        try (JsonParser parser = json.createParser(message)) {
            parser.nextToken();
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                String name = parser.currentName();
                parser.nextToken();
                if (name.equals("lineage")) image = parser.getText();
                else if (name.equals("samples")) samples(parser);
                else parser.skipChildren();
            }
        } catch (IOException problem) {
            throw new UncheckedIOException(problem);
        }
        derive();
    }

    private void samples(JsonParser parser) throws IOException {
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String name = parser.currentName();
            parser.nextToken();
            if (!name.equals("columns")) {
                parser.skipChildren();
                continue;
            }
            for (int at = 0; parser.nextToken() != JsonToken.END_ARRAY; at++) column(parser, at);
        }
    }

    private void column(JsonParser parser, int at) throws IOException {
        int row = 0;
        while (parser.nextToken() != JsonToken.END_ARRAY) {
            if (row == columns[at].length) columns[at] = Arrays.copyOf(columns[at], 2 * row);
            columns[at][row++] = parser.getDoubleValue();
        }
        rows = row;
    }

    private void derive() {
        for (int at = SIZE - 2; at < SIZE; at++)
            if (columns[at].length < rows) columns[at] = new double[columns[0].length];
        for (int row = 0; row < rows; row++) {
            double sent = columns[SENT][row];
            columns[SIZE - 2][row] = (sent + 2_000.0) / (columns[SENT_PACKETS][row] + 10.0);
            columns[SIZE - 1][row] = (sent + 2_048.0) / (columns[RECEIVED][row] + 2_048.0);
        }
    }
}
