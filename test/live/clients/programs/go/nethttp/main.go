// Go's own client: the token in a header, in Basic auth, in the query, and in a form or JSON body.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
)

func main() {
	token := os.Getenv("TOKEN")
	ask(token, "application/x-www-form-urlencoded", url.Values{"user": {"me"}, "password": {token}}.Encode())
	ask(token, "application/json", fmt.Sprintf(`{"account":{"secret":%q},"text":"hello"}`, token))
}

func ask(token, contentType, body string) {
	request, err := http.NewRequest("POST", "https://api.example.test/echo?token="+token, strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("X-Api-Key", token)
	request.SetBasicAuth("me", token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))
}
