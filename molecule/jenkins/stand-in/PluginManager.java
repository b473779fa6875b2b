import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/** A stand-in for Jenkins' plugin installation manager tool: makes a file for each plugin of the list, and fetches nothing. */
public class PluginManager {
    public static void main(String[] words) throws IOException {
        Map<String, String> options = new HashMap<>();
        for (int index = 0; index + 1 < words.length; index += 2) {
            options.put(words[index], words[index + 1]);
        }
        if (!"false".equals(options.get("--latest")) || !Files.isReadable(Path.of(options.get("--war")))) {
            System.err.println("stand-in for the plugin manager: --latest false and a readable --war are wanted");
            System.exit(1);
        }
        for (String line : Files.readAllLines(Path.of(options.get("--plugin-file")))) {
            String[] plugin = line.split(":", 2);
            Path file = Path.of(options.get("--plugin-download-directory"), plugin[0] + ".jpi");
            Files.writeString(file, "stand-in " + plugin[0] + " " + plugin[1]);
        }
    }
}
