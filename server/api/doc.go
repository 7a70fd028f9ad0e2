// Package api is HTTP in: it judges requests, publishes events, and turns a request for a stream
// into a fanout.Subscription.
//
//	path                 methods            where                 file
//	/events              GET HEAD           main addresses        subscribe.go, parameters.go
//	/events/{topic}      GET HEAD           main addresses        subscribe.go, parameters.go
//	the two              POST QUERY         main addresses        ask.go
//	/publish             POST               main addresses        publish.go, body.go, ndjson.go
//	/publish/{topic}     POST               main addresses        publish.go, body.go, ndjson.go
//	/topics              GET HEAD           admin, loopback main  topics.go
//	/topics/{topic}      GET HEAD DELETE    admin, loopback main  topics.go
//	/streams             GET HEAD           admin, loopback main  stats.go
//	/stats               GET HEAD           admin, loopback main  stats.go
//	/metrics             GET HEAD           admin, loopback main  metrics.go
//	/healthz, /readyz    GET HEAD           both addresses        health.go
//	/                    GET HEAD           both addresses        page.go
//
// Every path answers OPTIONS (cors.go). "Loopback main" means: on the main address while that
// is loopback, for a Host of this machine, through no proxy; otherwise the path is a 404.
//
// A request comes one of two ways. On the short way accept hands over a parsed head of a plain
// GET and wants a subscription or the bytes of an answer (API.Short); on the long way fasthttp
// serves a connection (API.Serve). Both go through the same judge (routes.go) and the same
// subscribe (subscribe.go), and both write an error with the same fail (errors.go).
//
// Everything here may be called from any goroutine. Short runs on the accept thread and never
// waits; Serve may wait in Sequencer.Publish until the shards have caught up.
package api
