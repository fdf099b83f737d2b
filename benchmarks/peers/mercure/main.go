// A Mercure hub as its Caddy build has it by default: anonymous subscribers, and a history in a
// Bolt database, the one argument after the address. Without Caddy, which costs a little more.
package main

import (
	"context"
	"log"
	"log/slog"
	"net/http"
	"os"

	"github.com/dunglas/mercure"
)

func main() {
	address, database := os.Args[1], os.Args[2]
	transport, err := mercure.NewBoltTransport(
		mercure.NewSubscriberList(mercure.DefaultSubscriberListCacheSize),
		slog.New(slog.DiscardHandler), database, "", 0, 0.3,
	)
	if err != nil {
		log.Fatal(err)
	}
	hub, err := mercure.NewHub(
		context.Background(),
		mercure.WithAnonymous(),
		mercure.WithTransport(transport),
		mercure.WithLogger(slog.New(slog.DiscardHandler)),
		mercure.WithPublisherJWT([]byte(os.Getenv("PUBLISHER_KEY")), "HS256"),
	)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(address, hub))
}
