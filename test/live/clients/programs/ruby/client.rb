# Ruby's own client: the token in a header, in Basic auth, in the query, and in a form or JSON body.
require 'json'
require 'net/http'

token = ENV.fetch('TOKEN')
target = URI("https://api.example.test/echo?token=#{token}")
bodies = {
  'application/x-www-form-urlencoded' => URI.encode_www_form(user: 'me', password: token),
  'application/json' => JSON.generate(account: { secret: token }, text: 'hello'),
}
Net::HTTP.start(target.host, target.port, use_ssl: true) do |http|
  bodies.each do |type, body|
    request = Net::HTTP::Post.new(target, 'Content-Type' => type, 'X-Api-Key' => token)
    request.basic_auth('me', token)
    puts http.request(request, body).body
  end
end
