// The JDK's two clients. Neither can send the run's credential to the proxy: kz knows them by their process.
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Map;

public class Client {
  static final String TOKEN = System.getenv("TOKEN");
  static final URI TARGET = URI.create("https://api.example.test/echo?token=" + TOKEN);
  static final String BASIC = "Basic " + Base64.getEncoder().encodeToString(("me:" + TOKEN).getBytes(StandardCharsets.UTF_8));
  static final Map<String, String> BODIES =
      Map.of(
          "application/x-www-form-urlencoded", "user=me&password=" + TOKEN,
          "application/json", "{\"account\":{\"secret\":\"" + TOKEN + "\"},\"text\":\"hello\"}");

  public static void main(String[] args) throws Exception {
    HttpClient client = HttpClient.newHttpClient();
    for (Map.Entry<String, String> body : BODIES.entrySet()) {
      System.out.println(args[0].equals("HttpClient") ? ask(client, body.getKey(), body.getValue()) : ask(body.getKey(), body.getValue()));
    }
  }

  static String ask(HttpClient client, String type, String body) throws IOException, InterruptedException {
    HttpRequest request =
        HttpRequest.newBuilder(TARGET)
            .header("Content-Type", type)
            .header("X-Api-Key", TOKEN)
            .header("Authorization", BASIC)
            .POST(BodyPublishers.ofString(body))
            .build();
    return client.send(request, BodyHandlers.ofString()).body();
  }

  static String ask(String type, String body) throws IOException {
    HttpURLConnection connection = (HttpURLConnection) TARGET.toURL().openConnection();
    connection.setRequestProperty("Content-Type", type);
    connection.setRequestProperty("X-Api-Key", TOKEN);
    connection.setRequestProperty("Authorization", BASIC);
    connection.setDoOutput(true);
    connection.getOutputStream().write(body.getBytes(StandardCharsets.UTF_8));
    return new String(connection.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
  }
}
