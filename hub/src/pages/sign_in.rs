use maud::html;

use super::frame;

/// Asks for a token; with what was wrong with the last one, if there was one.
pub fn sign_in(wrong: Option<&str>) -> String {
    let main = html! {
        p { "Whoever runs this hub makes you a token, which works once:" }
        pre { "flywheel hub token YOUR-NAME --role reviewer" }
        form.sign-in method="post" action="sign-in" {
            label for="token" { "Token" }
            input id="token" name="token" type="password" autocomplete="off" required autofocus
                aria-describedby=[wrong.map(|_| "wrong")];
            button { "Sign in" }
            @if let Some(wrong) = wrong { p.bad id="wrong" role="alert" { (wrong) } }
        }
        p.note { "Your browser stays signed in for 30 days, or until the hub revokes your name." }
    };
    frame::document("Sign in", &html! { h1 { "Sign in" } }, &main, None).into_string()
}
