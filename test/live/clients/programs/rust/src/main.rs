// reqwest: the token in a header, in Basic auth, in the query, and in a form or JSON body.
use reqwest::blocking::Client;

fn main() -> Result<(), reqwest::Error> {
    let token = std::env::var("TOKEN").unwrap_or_default();
    let client = Client::new();
    let form = format!("user=me&password={token}");
    let json = format!(r#"{{"account":{{"secret":"{token}"}},"text":"hello"}}"#);
    for (kind, body) in [("application/x-www-form-urlencoded", form), ("application/json", json)] {
        let answer = client
            .post(format!("https://api.example.test/echo?token={token}"))
            .header("X-Api-Key", &token)
            .basic_auth("me", Some(&token))
            .header("Content-Type", kind)
            .body(body)
            .send()?;
        println!("{}", answer.text()?);
    }
    Ok(())
}
