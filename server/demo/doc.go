// Package demo feeds a server with something to look at: recorded earthquakes, replayed
// quickly, and a simulated stock ticker.
//
//	demo.quakes.<region>    1,679 quakes of one week, at 1,000 times their pace, over and over
//	demo.stocks.<symbol>    trades of 500 invented stocks, about 100 a second, in bursts
//
// It publishes as anyone does, through the door that [Publisher] names, and knows nothing of
// sockets, shards or HTTP. One goroutine, the one that calls [Feeds.Run], serves all topics.
// What it publishes follows from the seed and the clock alone.
//
// README.md beside this file names the source of quakes.csv and its licence.
package demo
