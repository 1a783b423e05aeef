# A Tailrace handler in Ruby:  require "tailrace_handler";  TailraceHandler.run { |event, id:, attempt:| ... }
# The message is done when the block returns. An error raised in it is answered, and the message tried again;
# TailraceHandler::Refused says that trying again would not help.
require "json"

module TailraceHandler
  class Refused < StandardError; end

  def self.run(input: $stdin, output: $stdout.dup)
    $stdout.reopen($stderr) # what the block prints is log, and never an answer
    output.sync = true
    idle = stop = false
    trap("TERM") { stop = true; Thread.main.raise(SystemExit) if idle }
    until stop
      idle = true
      line = input.gets or break
      idle = false
      task = JSON.parse(line)
      begin
        yield task["event"], id: task["id"], attempt: task["attempt"]
        answer = { ok: true }
      rescue StandardError => e
        answer = { error: "#{e.class}: #{e.message}", retry: !e.is_a?(Refused) }
      end
      output.puts(JSON.generate({ id: task["id"] }.merge(answer)))
    end
  end
end
