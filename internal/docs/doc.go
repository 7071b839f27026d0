// Package docs holds what is true of the documentation: what it tells people to
// type is run or, where it cannot be, checked, and what it says of flags, errors, metrics and fields is what the
// code has. All of it is in this package's tests.
//
// A page is README.md, examples/README.md or a file of docs/ (its history, the
// design, decisions and bugs, is left alone). What a fenced block's language
// means:
//
//	sh         run with bash, as somebody who has started "make run"
//	console    lines after "$ " are run, the others are what they must print;
//	           numbers may differ, "..." stands for anything
//	go         compiled; a program is run too. A part of one is put into a
//	           function with ctx, where a line of dots is "return the error"
//	python     run
//	json       parsed
//	text       not run, and has nothing that looks like a command
//
// A comment on the line before a block changes that:
//
//	<!-- run by: TestName -->    another test runs it, which must exist
//	<!-- checked by: TestName --> no test runs it as it is: it takes Docker, a
//	                             host or minutes. What it names is there, and the
//	                             test, which must exist, tries what that holds
//	<!-- in the background -->   it is ended with its page
//	<!-- exits with 75 -->       its status
//
// Blocks of a page run in its order, in the module's folder, with an agent and a
// home folder of the page's own; what one exports the later ones have.
package docs
