// A gRPC call with the token in its metadata. The trailers bring the echo of the metadata, the message the value as it arrived.
package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func main() {
	token := os.Getenv("TOKEN")
	connection, err := grpc.NewClient("api.example.test:443", grpc.WithTransportCredentials(credentials.NewTLS(nil)))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	limited, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+token))
	ctx := metadata.AppendToOutgoingContext(limited, "x-api-key", token, "authorization", basic)
	var trailer metadata.MD
	answer := new(wrapperspb.StringValue)
	if err := connection.Invoke(ctx, "/kz.Echo/Call", wrapperspb.String("hello"), answer, grpc.Trailer(&trailer)); err != nil {
		log.Fatal(err)
	}
	fmt.Println(trailer.Get("x-echo")[0])
	fmt.Printf("{\"message\":%q}\n", answer.GetValue())
}
