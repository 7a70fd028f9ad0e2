package topic_test

import (
	"fmt"
	"log"

	"penstock/encode"
	"penstock/server/topic"
)

// A publisher publishes, a shard reads what it has missed.
func Example() {
	clock := int64(1763670000000041)
	seq, err := topic.New(topic.Options{RingSize: 1 << 20, MaxEventSize: 64 << 10, Keep: 1, Now: func() int64 { return clock }})
	if err != nil {
		log.Fatal(err)
	}
	shard := seq.Follow(func() { fmt.Println("the shard's bell rings") })
	news := seq.Table().Acquire("news", shard.Index())
	shard.Sleep(seq.Ring().Head())

	for _, text := range []string{"first", "second\nline"} {
		id, err := seq.Publish(&topic.Publication{Topic: "news", Event: encode.Event{Data: []byte(text)}})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("published", id)
	}

	shard.Wake()
	resume := seq.StartID()
	limit := seq.Ring().Head()
	found, next, lost := seq.Gather(nil, []*topic.Topic{news}, resume, 0, limit, 64<<10)
	for _, f := range found {
		fmt.Print(string(f.Entry.Frame()))
	}
	fmt.Println(len(found), "events, all:", next == limit, "lost:", lost)
	shard.Done(limit, 0)
	seq.Table().Release(news, shard.Index())

	// Output:
	// the shard's bell rings
	// published 1763670000000042
	// published 1763670000000043
	// data: first
	// id: 1763670000000042
	//
	// data: second
	// data: line
	// id: 1763670000000043
	//
	// 2 events, all: true lost: false
}

func ExampleParseName() {
	_, err := topic.ParseName("stocks..AAPL")
	fmt.Println(err)
	// Output:
	// topic "stocks..AAPL": empty token at byte 7; tokens are joined by single dots
}

func ExampleParsePattern() {
	p, _ := topic.ParsePattern("stocks.**")
	fmt.Println(p, p.Plain())
	// Output:
	// stocks.> false
}
