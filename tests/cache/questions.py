"""Pairs of questions: two that look alike, and one in two wordings."""

APART = """
price of AAPL | price of MSFT
price of apple | price of google
is ibuprofen safe | is ibuprofen not safe
Is it safe? | Isn't it safe?
can I take it with food | can I take it without food
can you do this | you can't do this
do dogs eat chocolate | dogs never eat chocolate
ist das sicher | ist das nicht sicher
what happened in 2023 | what happened in 2024
what happened on 3 May | what happened on 3 June
who won on monday | who won on tuesday
the weather today | the weather tomorrow
convert 10 miles | convert 100 miles
convert 1.5 miles | convert 15 miles
convert ten miles | convert twenty miles
10 km in miles | 10 km in metres
is 5% enough | is 5$ enough
2 + 2 | 2 - 2
what is C++ | what is C#
vitamin c dose | vitamin d dose
what does `git push` do | what does `git pull` do
what does "over" mean | what does "under" mean
meaning of 'ship' | meaning of 'shop'
what is foo_bar | what is foo_baz
read /etc/passwd | read /etc/shadow
mail a@example.com | mail b@example.com
version 1.2.3 | version 1.2.4
capital of France | capital of Spain
Paris weather | London weather
Who was Ada Lovelace? | Who was Grace Hopper?
Was Obama born in Kenya? | Was Obama born in Hawaii?
population of the UK | population of the US
flights from paris to london | flights from london to paris
flights from paris | flights to paris
does the dog bite the man | does the man bite the dog
install the driver | uninstall the driver
import a file as csv in this tool | export a file as csv from this tool
increase the limit for me | please decrease the limit
is this legal | is this illegal
turn the wifi on | turn the wifi off
before the meal | after the meal
buy the share | sell the share
highest mountain | lowest mountain
first president | last president
a or b | a and b
all users | some users
duties of an employer | duties of an employee
his age | her age
when did it start | where did it start
the fall of 1989 | the fall of 1999
translate it to french | translate it to german
sulfate uses | sulfite uses
What are the side effects of taking aspirin with alcohol? | What are the side effects of taking aspirin with antibiotics?
How do I cancel my subscription before the trial ends? | How do I cancel my subscription after the trial ends?
Can I bring a dog on the train? | Can I bring a cat on the train?
How many calories are in a banana? | How many calories are in an apple?
How long should I boil soft eggs? | How long should I boil hard eggs?
What is the tallest mountain in Africa? | What is the tallest mountain in Asia?
Is it cheaper to rent than to buy? | Is it cheaper to buy than to rent?
What percentage of adults smoke? | What percentage of teenagers smoke?
How do I add a user to a group in linux? | How do I remove a user from a group in linux?
How do I convert a string to an int in python? | How do I convert an int to a string in python?
How do I sort a list in ascending order? | How do I sort a list in descending order?
What is the difference between TCP and UDP? | What is the difference between TCP and IP?
Write a polite email accepting the job offer | Write a polite email declining the job offer
Write a short poem about love | Write a long poem about love
Which drugs interact with warfarin? | Which foods interact with warfarin?
What is the minimum wage in California? | What is the maximum wage in California?
Is the shop open on public holidays? | Is the shop closed on public holidays?
How do I enable two-factor authentication? | How do I disable two-factor authentication?
What happens if I pay my taxes late? | What happens if I pay my taxes early?
Do I need a visa to travel to Turkey as a German citizen? | Do I need a visa to travel to Germany as a Turkish citizen?
Who was the father of Alexander the Great? | Who was the mother of Alexander the Great?
What are symptoms of low blood pressure? | What are symptoms of high blood pressure?
How much protein does a person need per day? | How much protein does a person need per week?
Is it legal to own a gun in Texas? | Is it legal to own a gun in New York?
Can children take ibuprofen? | Can pregnant women take ibuprofen?
What is the capital of Australia? | What is the capital of Austria?
Translate good morning into Spanish | Translate good morning into Portuguese
translate good night into spanish | translate good morning into spanish
Which country has the most people? | Which country has the fewest people?
When did the war begin? | When did the war end?
Is the drug approved for dogs? | Is the drug approved for dogs under one year?
How do I undo the last commit? | How do I redo the last commit?
What does the red light on my router mean? | What does the green light on my router mean?
Does my insurance cover dental work? | Does my insurance exclude dental work?
Why is my electricity bill so high this month? | Why is my gas bill so high this month?
Summarize the pros of remote work | Summarize the cons of remote work
What should I do if my tenant stops paying? | What should I do if my landlord stops paying?
I lent money to a friend, can I sue him? | I borrowed money from a friend, can he sue me?
Is my package delivered? | Is my package delayed?
Show me the sales for the first quarter | Show me the returns for the first quarter
Is a tomato a fruit? | Is a tomato a vegetable?
How old is the queen of england | How old is the king of england
How can I gain weight quickly? | How can I lose weight quickly?
How do I make the font bigger? | How do I make the font smaller?
What is heavier, gold or lead? | What is lighter, gold or lead?
what is the population of new york | what is the population of new jersey
the distance from the earth to the moon | the distance from the earth to the sun
What time does the bank open? | What time does the bank close?
My son is older than my daughter. Who is younger? | My son is older than my daughter. Who is older?
Will it rain? | Did it rain?
Could she win? | Could she have won?
Is the Pro plan cheaper than the Basic plan? | Is the Basic plan cheaper than the Pro plan?
Which is bigger, the sun or the earth? | Which is bigger, the earth or the moon?
Can I return an opened product? | Can I return an unopened product?
Does vitamin D help with a cold? | Does vitamin C help with a cold?
How do I lock my screen? | How do I unlock my screen?
Is coffee good for the heart? | Is coffee bad for the heart?
What is 15 percent of 80? | What is 80 percent of 15?
How do I connect my phone to my laptop? | How do I disconnect my phone from my laptop?
Can you recommend a cheap hotel in Rome? | Can you recommend an expensive hotel in Rome?
Are snakes dangerous to humans? | Are humans dangerous to snakes?
Why do cats hate dogs? | Why do dogs hate cats?
What is the adult dose of paracetamol? | What is the child dose of paracetamol?
How do I upload a photo? | How do I download a photo?
How do I turn off notifications? | How do I turn on notifications?
Is the patient allowed to eat before surgery? | Is the patient allowed to drink before surgery?
How many points does the home team have? | How many points does the away team have?
What is the fine for speeding? | What is the fine for parking?
What are the rules of chess for beginners? | What are the rules of checkers for beginners?
Which stocks went up today? | Which stocks went down today?
Can I use my card abroad? | Can I use my card at home?
What was the GDP of Norway in 1990? | What was the GDP of Norway in 2020?
How do I merge branch a into branch b? | How do I merge branch b into branch a?
Is the library free for students? | Is the library free for teachers?
Can a landlord enter without notice? | Can a landlord enter with notice?
Who owns the company that makes Nutella? | Who founded the company that makes Nutella?
How do I block a caller? | How do I unblock a caller?
What is the opposite of hot? | What is the opposite of cold?
Give me a recipe with eggs | Give me a recipe without eggs
Is remote work allowed? | Is remote work required?
What are the risks of surgery? | What are the benefits of surgery?
How do I add money to my wallet? | How do I withdraw money from my wallet?
Explain the first law of thermodynamics | Explain the second law of thermodynamics
Is Pluto a planet? | Was Pluto a planet?
Did Alice pay Bob? | Did Bob pay Alice?
Must I file taxes? | May I file taxes?
do we ship to norway | do we ship from norway
Where is the nearest pharmacy? | Where is the nearest hospital?
How do I transfer money from my savings to my checking account? | How do I transfer money from my checking to my savings account?
My flight was delayed by four hours, am I owed compensation? | My flight was cancelled four hours ago, am I owed compensation?
Please write a formal letter to my landlord about the broken heating | Please write an informal letter to my landlord about the broken heating
Can I deduct my home office if I am employed? | Can I deduct my home office if I am self-employed?
Which is faster, quicksort or mergesort? | Which is slower, quicksort or mergesort?
How many people live in Sweden? | How many people live in Switzerland?
What does the law say about working on Sundays? | What does the law say about working at night?
In SQL, how do I select rows where the column is null? | In SQL, how do I select rows where the column is not null?
How do I delete a branch locally? | How do I delete a branch remotely?
Is the store in Boston hiring? | Is the store in Austin hiring?
What is the boiling point of water in Celsius? | What is the boiling point of water in Fahrenheit?
What is the boiling point of water? | What is the freezing point of water?
If A implies B, does B imply A? | If A implies B, does A imply B?
Who is taller, Tom or Jerry? | Who is shorter, Tom or Jerry?
Tom gave the book to Anna. Who has it? | Anna gave the book to Tom. Who has it?
How do I mute a conversation? | How do I leave a conversation?
Can I eat sushi while breastfeeding? | Can I eat sushi while pregnant?
Which planets have rings? | Which planets have moons?
How is the euro doing against the dollar? | How is the dollar doing against the euro?
Is my data shared with third parties? | Is my data sold to third parties?
Write unit tests for this function in Java | Write unit tests for this function in JavaScript
What do I need to open a business account? | What do I need to open a personal account?
Can guests cancel for free? | Can hosts cancel for free?
Are there any direct trains? | Are there no direct trains?
What comes after autumn? | What comes before autumn?
How far is it by car? | How far is it by bike?
Could you rewrite this to sound more confident? | Could you rewrite this to sound more humble?
How do I join the beta? | How do I leave the beta?
Does he like her? | Does she like him?
"""

ONE = """
How do I reset my password? | how can I reset my password
How do I reset my password? | Hi, please tell me how to reset my password!
resetting a password | reset the password
What is the capital of France? | what's the capital of france
Tell me the capital of France | What is the capital of France?
Explain photosynthesis. | Please explain photosynthesis to me
what does "ship" mean | please tell me what "ship" means
price of AAPL | What is the price of AAPL?
what are good ways to cook rice | how should I prepare rice
I don't know how this works | I do not know how that works
How can I get my money back for an order? | How do I get a refund for my order?
How do I delete my account? | How can I delete my account permanently?
Can you explain what recursion is? | What is recursion?
how to boil an egg | How do you boil an egg?
How many legs does a spider have? | how many legs do spiders have
Could you tell me how to track my package? | How do I track my package?
What is the best way to learn Spanish? | what's the best way of learning Spanish
Where can I find my invoices? | Where do I find the invoices?
How do I contact support? | I need to contact support. How?
Is there a student discount? | Do you have a discount for students?
What payment methods do you accept? | Which payment methods are accepted?
How do I merge two dictionaries in Python? | How can two dictionaries be merged in Python?
"""


def pairs(table: str) -> list[list[str]]:
    return [line.split(" | ") for line in table.strip().splitlines()]
