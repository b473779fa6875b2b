import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A stand-in for jenkins.war, and nothing of Jenkins: it looks at what a controller is given (options, home, configuration,
 * credentials, plugins), and answers as one that nobody is logged in to. It says why and ends where something is missing.
 */
public class StandIn {
    public static void main(String[] words) throws IOException {
        // As Jenkins, which refuses here a Java that it does not support.
        if (words.length == 1 && "--version".equals(words[0])) {
            System.out.println("stand-in");
            return;
        }
        Map<String, String> options = new HashMap<>();
        for (String word : words) {
            String[] parts = word.split("=", 2);
            options.put(parts[0], parts.length > 1 ? parts[1] : "");
        }
        need("false".equals(System.getProperty("jenkins.install.runSetupWizard")), "the set-up wizard is on");
        Path home = Path.of(System.getenv("JENKINS_HOME"));
        Files.writeString(home.resolve("stand-in"), "This is not Jenkins.\n");
        String configuration = Files.readString(Path.of(System.getenv("CASC_JENKINS_CONFIG")));
        Matcher secret = Pattern.compile("\\$\\{([a-z0-9-]+)\\}").matcher(configuration);
        while (secret.find()) {
            Path file = Path.of(System.getenv("SECRETS"), secret.group(1));
            need(Files.isReadable(file), "the credential " + secret.group(1) + " is missing");
        }
        Matcher job = Pattern.compile("- file: (\\S+)").matcher(configuration);
        need(job.find() && Files.isReadable(Path.of(job.group(1))), "the job can't be read");
        try (var plugins = Files.list(home.resolve("plugins"))) {
            need(plugins.anyMatch(one -> one.toString().endsWith(".jpi")), "there are no plugins");
        }
        String prefix = options.get("--prefix");
        int port = Integer.parseInt(options.get("--httpPort"));
        HttpServer server = HttpServer.create(new InetSocketAddress(options.get("--httpListenAddress"), port), 0);
        server.createContext("/", exchange -> answer(exchange, 404));
        server.createContext(prefix + "/", exchange -> answer(exchange, 403));
        server.createContext(prefix + "/login", exchange -> answer(exchange, 200));
        server.start();
        System.out.println("stand-in for Jenkins on port " + port);
    }

    private static void need(boolean fine, String otherwise) {
        if (!fine) {
            System.err.println("stand-in for Jenkins: " + otherwise);
            System.exit(1);
        }
    }

    private static void answer(HttpExchange exchange, int status) throws IOException {
        byte[] body = "This is a stand-in, and not Jenkins.\n".getBytes();
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }
}
